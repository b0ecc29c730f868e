"""``cagface bench``: how fast the networks, the frames and the live loop are on this machine."""
