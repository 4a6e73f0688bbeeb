"""A soak: jobs that ask people, people who follow them, and workers that are killed."""
