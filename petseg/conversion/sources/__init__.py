"""The sources of raw data, one file each."""
