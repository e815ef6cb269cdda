"""Code versions: commits, copies of the code that jobs run, and getting them back."""
