//! A stand-in for the `base2histogram` crate with the interface that openraft
//! asks of it, and nothing behind it.
//!
//! openraft counts batch sizes and stage latencies for a statistics page that
//! this program does not show. The original builds 26 MB of lookup tables when
//! the first histogram is made, which is six times what the whole witness
//! needs. Here a sample is only counted.

use std::fmt;
use std::marker::PhantomData;

/// Counts samples; keeps no distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    total: u64,
    data: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { total: 0, data: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one sample.
    pub fn record(&mut self, _value: u64) {
        self.total = self.total.saturating_add(1);
    }

    /// Counts `count` samples.
    pub fn record_n(&mut self, _value: u64, count: u64) {
        self.total = self.total.saturating_add(count);
    }

    /// How many samples were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The number of samples; every percentile is 0, for none is kept.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats { samples: self.total, ..PercentileStats::default() }
    }
}

/// What openraft prints of a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "samples: {}", self.samples)
    }
}

/// openraft's chart of stage latencies, always empty here.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty chart.
    pub fn new() -> Self {
        Self
    }

    /// Leaves the chart as it is.
    #[must_use]
    pub fn add<T>(self, _label: impl Into<String>, _histogram: Histogram<T>) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
