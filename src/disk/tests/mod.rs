//! What proves the disk room: every failure at every point, on a simulated disk
//! that is worse than a real one, and the real file system where it matters.

mod bad_sectors;
mod crash;
mod damage;
mod format;
mod real;
mod rig;
mod space;
