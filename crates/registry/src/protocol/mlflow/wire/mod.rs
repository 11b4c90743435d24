//! MLflow's JSON, written out: requests and answers, one file per noun. These types never leave this protocol.
//!
//! 64-bit numbers are JSON numbers, what is unset is left out, floats that JSON lacks are words.
