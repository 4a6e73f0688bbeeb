"""A tour of adk-oban that needs no key and no network: `./dev demo [FILE...]`."""
