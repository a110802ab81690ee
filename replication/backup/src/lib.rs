//! Where backups lie and what is in them: the directory layout of Apache Pegasus, its JSON files, and the object
//! stores that hold them.

#![forbid(unsafe_code)]
