"""Work that is done elsewhere: what is sent, what comes back, and by which code."""
