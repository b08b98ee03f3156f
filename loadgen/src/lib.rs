//! Load generator for mail directors.
