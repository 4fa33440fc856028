"""Building blocks of a fusion model. They do not know each other."""
