"""Engine of the measures: columns, groups, bars, sessions, sampling and compiled kernels."""
