"""Running studies: from validated specs to records on disk and a table on the screen."""
