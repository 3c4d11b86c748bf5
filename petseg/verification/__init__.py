"""Is a finished data set what its manifest says, and what does it look like?"""
