"""Blocks that encoders and upsamplers share: no names, no scales, no networks."""
