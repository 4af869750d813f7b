"""Models of channel strips and devices: what they imitate, how recordings run through them, how near they come."""
