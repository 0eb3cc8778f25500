//! Workers: how they come and go, are made anew, and are counted out.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/more.rs"]
mod more;

#[cfg(all(feature = "affinity", target_os = "linux"))]
mod affinity;
mod back_off;
mod elastic;
mod escapes;
mod factories;
mod no_workers;
mod panics;
mod resizing;
mod restarts;
mod slow_user_code;
mod waiting_table;
mod workers;
