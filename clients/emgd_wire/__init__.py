"""The published formats: kinds, flags, codec, version, paths.

Shared by the service and its clients; imports nothing of ours. The text that it must agree with is docs/protocol.md.
"""
