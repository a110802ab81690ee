#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "test sizes are small")]

mod corpus;
mod damage;
mod disk;
mod life;
mod model;
mod random;
mod rules;
