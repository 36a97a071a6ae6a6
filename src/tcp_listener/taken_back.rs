//! How often a client of HTTP/2 takes back what it has asked for, before it is answered (CVE-2023-44487).

use std::time::Duration;

use tokio::time::Instant;

/// The requests that were taken back on one connection. Now and then one is no harm: its client would not wait longer.
#[derive(Debug)]
pub struct TakenBack {
    since: Instant,
    count: u32,
}

impl TakenBack {
    /// So many within [`Self::PERIOD`] are no flood yet.
    pub const MOST: u32 = 100;
    pub const PERIOD: Duration = Duration::from_secs(10);

    /// Counts one more; whether that is a flood. As many again make the next one.
    pub fn is_flood(&mut self) -> bool {
        let now = Instant::now();
        if self.since + Self::PERIOD <= now {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        let is_flood = self.count > Self::MOST;
        if is_flood {
            self.count = 0;
        }
        is_flood
    }
}

impl Default for TakenBack {
    fn default() -> Self {
        Self { since: Instant::now(), count: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hundred_in_ten_seconds_are_no_flood_however_often_and_one_more_is() {
        let mut taken_back = TakenBack::default();
        for _ in 0..3 {
            assert!((0..TakenBack::MOST).all(|_| !taken_back.is_flood()));
            tokio::time::advance(TakenBack::PERIOD).await;
        }
        for _ in 0..2 {
            assert!((0..TakenBack::MOST).all(|_| !taken_back.is_flood()));
            assert!(taken_back.is_flood());
        }
    }
}
