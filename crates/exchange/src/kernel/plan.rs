//! Where the rows of a block go.

use std::ops::Range;

/// Histogram of a block, and its rows in the order of their partitions.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    counts: Vec<u32>,
    starts: Vec<u32>,
    order: Vec<u32>,
    touched: Vec<u32>,
}

impl Plan {
    /// The whole plan of these rows.
    pub(crate) fn of(ids: &[u32], partitions: usize) -> Self {
        let mut plan = Plan::default();
        plan.count(ids, partitions);
        plan.sort(ids);
        plan
    }

    /// Counts the rows of each partition.
    #[allow(clippy::cast_possible_truncation, reason = "there are at most 65,536 partitions")]
    pub(crate) fn count(&mut self, ids: &[u32], partitions: usize) {
        self.counts.clear();
        self.counts.resize(partitions, 0);
        for id in ids {
            self.counts[*id as usize] += 1;
        }
        self.starts.clear();
        self.touched.clear();
        let mut start = 0;
        for (id, count) in self.counts.iter().enumerate() {
            self.starts.push(start);
            start += count;
            if *count > 0 {
                self.touched.push(id as u32);
            }
        }
        self.order.clear();
    }

    /// Sorts the rows by partition, those of one in their order. After this
    /// `starts` are ends.
    #[allow(clippy::cast_possible_truncation, reason = "a record batch has fewer rows than 2^32")]
    pub(crate) fn sort(&mut self, ids: &[u32]) {
        self.order.clear();
        self.order.resize(ids.len(), 0);
        for (row, id) in ids.iter().enumerate() {
            let place = &mut self.starts[*id as usize];
            self.order[*place as usize] = row as u32;
            *place += 1;
        }
        for (start, count) in self.starts.iter_mut().zip(&self.counts) {
            *start -= count;
        }
    }

    /// Rows in the order: all of them, each less than this number.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Rows, sorted by partition.
    pub(crate) fn order(&self) -> Vec<u32> {
        self.order.clone()
    }

    /// Where those of one partition lie in the order.
    pub(crate) fn run(&self, partition: usize) -> Range<usize> {
        let start = self.starts[partition] as usize;
        start..start + self.counts[partition] as usize
    }

    /// The rows of one partition.
    pub(super) fn rows(&self, partition: usize) -> &[u32] {
        &self.order[self.run(partition)]
    }

    pub(super) fn rows_in(&self, partition: usize) -> usize {
        self.counts[partition] as usize
    }

    /// The partitions that get a row.
    pub(super) fn touched(&self) -> impl Iterator<Item = usize> + '_ {
        self.touched.iter().map(|id| *id as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn rows_are_sorted_by_partition_and_keep_their_order() {
        let plan = Plan::of(&[2, 0, 2, 3, 0], 5);
        assert_eq!(plan.order(), [1, 4, 0, 2, 3]);
        let runs: Vec<_> = (0..5).map(|id| plan.rows(id).to_vec()).collect();
        assert_eq!(runs, [vec![1, 4], vec![], vec![0, 2], vec![3], vec![]]);
        assert_eq!(plan.touched().collect::<Vec<_>>(), [0, 2, 3]);
    }
}
