"""The processes of a study: children that may be killed, others that run the same study, signals to stop."""
