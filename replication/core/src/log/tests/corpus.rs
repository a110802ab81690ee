//! Replays the fuzz corpus (tests/fuzz) as an ordinary test.
