"""The run folder: where its files lie, what they hold, and what they together say."""
