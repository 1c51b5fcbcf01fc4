"""Contract suites, fakes and strategies of the tests of ibticks, for packages built on it.

``ibticks.testing.strategies`` has hypothesis strategies (``pip install hypothesis``) for v2
messages, protobuf messages and their encodings; ``ibticks.testing.wire`` writes the protobuf wire
format byte by byte.
"""
