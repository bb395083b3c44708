//! What runs in each member cluster: it keeps the namespace of its cluster in the LB cluster as the cluster is.
//!
//! ```text
//!  member cluster ──watch──► view ──► translate ──► keeper (what is wanted, what is there) ──► write ──server-side apply──► LB cluster
//!        ▲                                            │    ▲                                                               │
//!        └── companions, statuses, events ◄───────────┘    └──────────────────────── watch of what was written ◄───────────┘
//! ```
//!
//! Everything that decides is pure: [`view`] is what is there, [`translate`] what it comes to, [`keeper`] what is to be written next. The
//! rest, under [`run`], carries events in and writes out.

pub mod keeper;
pub mod ledger;
pub mod meta;
pub mod names;
pub mod notices;
pub mod objects;
pub mod run;
pub mod translate;
pub mod view;
