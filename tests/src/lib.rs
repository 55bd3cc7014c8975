//! The world the tests build.
