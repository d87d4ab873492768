//! Cuts overlapping ranges at every border.

use super::Step;

/// A range, both ends included, with the number of its owner.
pub(super) type Numbered<K> = (K, K, usize);

/// Calls `each`, in order, with every piece between two borders that lies in some range, and with the numbers of its
/// ranges, the lowest first.
pub(super) fn segments<K: Step>(ranges: &[Numbered<K>], mut each: impl FnMut(K, K, &[usize])) {
    if let [(first, last, number)] = *ranges {
        return each(first, last, &[number]);
    }
    let (mut starts, mut ends) = (ranges.to_vec(), ranges.to_vec());
    starts.sort_unstable_by_key(|(first, ..)| *first);
    ends.sort_unstable_by_key(|(_, last, _)| *last);
    let (mut starts, mut ends) = (starts.into_iter().peekable(), ends.into_iter().peekable());
    let mut open: Vec<usize> = Vec::new();
    let Some((mut at, ..)) = starts.peek().copied() else { return };
    while let Some((_, end, _)) = ends.peek().copied() {
        if let Some((first, ..)) = starts.peek().filter(|_| open.is_empty()) {
            at = *first;
        }
        while let Some((.., number)) = starts.next_if(|(first, ..)| *first == at) {
            open.insert(open.partition_point(|other| *other < number), number);
        }
        let stop = match starts.peek() {
            Some((next, ..)) if *next <= end => next.before(),
            _ => end,
        };
        each(at, stop, &open);
        while let Some((.., number)) = ends.next_if(|(_, last, _)| *last == stop) {
            open.remove(open.partition_point(|other| *other < number));
        }
        let Some(next) = stop.next() else { return };
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[Numbered<u16>]) -> Vec<(u16, u16, Vec<usize>)> {
        let mut found = Vec::new();
        segments(ranges, |first, last, open| found.push((first, last, open.to_vec())));
        found
    }

    #[test]
    fn every_border_cuts() {
        assert_eq!(of(&[]), []);
        let nested = of(&[(1, u16::MAX, 0), (80, 80, 1), (80, 90, 2)]);
        let expected = [(1, 79, vec![0]), (80, 80, vec![0, 1, 2]), (81, 90, vec![0, 2]), (91, u16::MAX, vec![0])];
        assert_eq!(nested, expected);
        assert_eq!(
            of(&[(5, 6, 0), (1, 2, 1), (2, 3, 2)]),
            [(1, 1, vec![1]), (2, 2, vec![1, 2]), (3, 3, vec![2]), (5, 6, vec![0])]
        );
    }
}
