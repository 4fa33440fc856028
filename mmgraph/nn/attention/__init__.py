"""Parts of relational attention: dense, sparse, packed and compiled execution.

Used by ``nn.conv`` alone.
"""
