"""From YAML text to checked dataclasses, with the place of every problem."""
