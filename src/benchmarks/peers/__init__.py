"""What a person without this harness would run: peft with the HF Trainer, and peft with a loop of their own.

The two scripts import nothing of the harness that they would not need, so that their start is their own.
"""
