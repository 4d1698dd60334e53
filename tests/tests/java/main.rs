//! Java functions in the real JVM, from the signatures that they may have to what they may
//! leave behind.

#![forbid(unsafe_code)]

mod answers;
mod failures;
mod program;
mod randomness;
mod rewinds;
mod signatures;
mod surroundings;
mod traces;
