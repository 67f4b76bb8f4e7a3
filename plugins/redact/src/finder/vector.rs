//! Where a window of three bytes may end: sixteen places at a time where the processor can, else one by one. Both say the same.
//!
//! A byte's low half picks one of sixteen masks, its high half another; the bits in both are the groups of which it fits a
//! place. A window may end where the third place's groups, those of the byte before for the second place, and those of the one
//! before that for the first have one in common.

/// Bytes of a window.
pub(crate) const WINDOW: usize = 3;
/// Groups of windows: the bits of a mask.
pub(crate) const GROUPS: usize = 8;

/// Vectors are looked at four in a turn of the loop; so many turns are a block.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "wasm32")), allow(dead_code, reason = "no vectors here"))]
const TURNS: usize = 16;

/// By place, then low or high half, then its value: the groups that have such a byte there.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    places: [[[u8; 16]; 2]; WINDOW],
}

/// Sixteen bytes in a register.
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "wasm32")), allow(dead_code, reason = "no vectors here"))]
trait Lanes: Copy {
    /// All bits set.
    fn ones() -> Self;
    fn load(bytes: &[u8; 16]) -> Self;
    fn and(self, other: Self) -> Self;
    /// Each byte's low half.
    fn low(self) -> Self;
    /// Each byte's high half.
    fn high(self) -> Self;
    /// For each byte of `at`, below 16, that byte of `self`.
    fn pick(self, at: Self) -> Self;
    /// Each byte moved `N` places up, the last ones of `before` in front.
    fn behind<const N: i32>(self, before: Self) -> Self;
    /// A bit for each byte that is not 0.
    fn mask(self) -> u16;
}

// === impl Tables ===

impl Tables {
    /// From the halves of each group's places, as bits.
    pub(crate) fn new(groups: &[[(u16, u16); WINDOW]; GROUPS]) -> Self {
        let mut places = [[[0; 16]; 2]; WINDOW];
        for (bit, group) in groups.iter().enumerate() {
            for (place, (low, high)) in places.iter_mut().zip(group) {
                for (table, values) in place.iter_mut().zip([low, high]) {
                    for (value, groups) in table.iter_mut().enumerate() {
                        *groups |= u8::from(values >> value & 1 == 1) << bit;
                    }
                }
            }
        }
        Self { places }
    }

    /// Calls `on_last` with the last byte of each place where a window may stand, in order, until it says true; whether it
    /// has. Windows may reach over the text's beginning.
    #[inline]
    pub(crate) fn any(&self, text: &[u8], on_last: impl FnMut(usize) -> bool) -> bool {
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return self.any_of::<wasm::Lanes16>(text, on_last);
        #[cfg(target_arch = "x86_64")]
        return x86::any(self, text, on_last);
        #[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
        self.any_plain(text, on_last)
    }

    /// The same byte by byte.
    #[allow(dead_code, reason = "where there are no vectors, and to test them")]
    pub(crate) fn any_plain(&self, text: &[u8], mut on_last: impl FnMut(usize) -> bool) -> bool {
        let fits = |place: usize, byte: u8| {
            let [low, high] = &self.places[place];
            low[usize::from(byte & 15)] & high[usize::from(byte >> 4)]
        };
        // The first place's groups of the last two bytes, the second's of the last one.
        let (mut firsts, mut second) = ([u8::MAX; 2], u8::MAX);
        text.iter().enumerate().any(|(at, byte)| {
            let may_end = fits(2, *byte) & second & firsts[0] != 0;
            firsts = [firsts[1], fits(0, *byte)];
            second = fits(1, *byte);
            may_end && on_last(at)
        })
    }

    /// The same with vectors. All of a block's masks before any of its places: the tables stay in registers, and a guest is
    /// asked for its deadline once in 64 bytes.
    #[allow(dead_code, reason = "where there are vectors")]
    #[inline(always)]
    fn any_of<L: Lanes>(&self, text: &[u8], mut on_last: impl FnMut(usize) -> bool) -> bool {
        let [first, second, third] = &self.places;
        let tables = [
            [L::load(&first[0]), L::load(&first[1])],
            [L::load(&second[0]), L::load(&second[1])],
            [L::load(&third[0]), L::load(&third[1])],
        ];
        let mut before = [L::ones(); 2];
        let mut masks = [0_u64; TURNS];
        let mut from = 0;
        for block in text.chunks(TURNS * 64) {
            let (turns, rest) = block.as_chunks::<64>();
            for (mask, turn) in masks.iter_mut().zip(turns) {
                *mask = step(&tables, turn, &mut before);
            }
            let mut count = turns.len();
            // A block with a rest has room for it.
            if let (false, Some(mask)) = (rest.is_empty(), masks.get_mut(count)) {
                let mut padded = [0; 64];
                padded[..rest.len()].copy_from_slice(rest);
                *mask = step(&tables, &padded, &mut before) & ((1 << rest.len()) - 1);
                count += 1;
            }
            for mask in &masks[..count] {
                let mut mask = *mask;
                while mask != 0 {
                    if on_last(from + mask.trailing_zeros() as usize) {
                        return true;
                    }
                    mask &= mask - 1;
                }
                from += 64;
            }
        }
        false
    }
}

/// A bit for each byte where a window may end; `before` has the first and second places' groups of the bytes before. No
/// closures here or above: natively they would not be compiled for the processor's vectors.
#[inline(always)]
fn step<L: Lanes>(tables: &[[L; 2]; WINDOW], turn: &[u8; 64], before: &mut [L; 2]) -> u64 {
    let ([a, b, c, d], _) = turn.as_chunks::<16>() else { return u64::MAX };
    quarter(tables, a, before)
        | quarter(tables, b, before) << 16
        | quarter(tables, c, before) << 32
        | quarter(tables, d, before) << 48
}

#[inline(always)]
fn quarter<L: Lanes>(tables: &[[L; 2]; WINDOW], bytes: &[u8; 16], before: &mut [L; 2]) -> u64 {
    let bytes = L::load(bytes);
    let (low, high) = (bytes.low(), bytes.high());
    let first = fits(tables[0], low, high);
    let second = fits(tables[1], low, high);
    let may_end = fits(tables[2], low, high).and(second.behind::<1>(before[1])).and(first.behind::<2>(before[0]));
    *before = [first, second];
    u64::from(may_end.mask())
}

/// The groups that have these bytes at a place.
#[inline(always)]
fn fits<L: Lanes>([lows, highs]: [L; 2], low: L, high: L) -> L {
    lows.pick(low).and(highs.pick(high))
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    //! The target's own vectors.
    #![allow(unsafe_code, reason = "loads a vector")]

    use core::arch::wasm32::{
        i8x16_bitmask, i8x16_relaxed_swizzle, i8x16_shuffle, u8x16_eq, u8x16_shr, u8x16_splat, v128, v128_and,
        v128_load,
    };

    #[derive(Clone, Copy)]
    pub(super) struct Lanes16(v128);

    impl super::Lanes for Lanes16 {
        #[inline(always)]
        fn ones() -> Self {
            Self(u8x16_splat(u8::MAX))
        }

        #[inline(always)]
        fn load(bytes: &[u8; 16]) -> Self {
            // SAFETY: sixteen bytes are there; the load asks for no alignment.
            Self(unsafe { v128_load(bytes.as_ptr().cast()) })
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            Self(v128_and(self.0, other.0))
        }

        #[inline(always)]
        fn low(self) -> Self {
            Self(v128_and(self.0, u8x16_splat(15)))
        }

        #[inline(always)]
        fn high(self) -> Self {
            Self(u8x16_shr(self.0, 4))
        }

        #[inline(always)]
        fn pick(self, at: Self) -> Self {
            Self(i8x16_relaxed_swizzle(self.0, at.0))
        }

        #[inline(always)]
        fn behind<const N: i32>(self, before: Self) -> Self {
            Self(match N {
                1 => i8x16_shuffle::<15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30>(before.0, self.0),
                _ => i8x16_shuffle::<14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29>(before.0, self.0),
            })
        }

        #[inline(always)]
        fn mask(self) -> u16 {
            !i8x16_bitmask(u8x16_eq(self.0, u8x16_splat(0)))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! SSSE3, which is asked for when the program runs.
    #![allow(unsafe_code, reason = "instructions that not every processor has")]

    use std::arch::x86_64::{
        __m128i, _mm_alignr_epi8, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        _mm_setzero_si128, _mm_shuffle_epi8, _mm_srli_epi16,
    };

    use super::{Lanes, Tables};

    /// Made in `with_ssse3` only, so wherever there is one, there is SSSE3.
    #[derive(Clone, Copy)]
    struct Lanes16(__m128i);

    /// With vectors, if this processor has them.
    #[inline]
    pub(super) fn any(tables: &Tables, text: &[u8], on_last: impl FnMut(usize) -> bool) -> bool {
        if std::arch::is_x86_feature_detected!("ssse3") {
            // SAFETY: the processor has it.
            return unsafe { with_ssse3(tables, text, on_last) };
        }
        tables.any_plain(text, on_last)
    }

    #[target_feature(enable = "ssse3")]
    fn with_ssse3(tables: &Tables, text: &[u8], on_last: impl FnMut(usize) -> bool) -> bool {
        tables.any_of::<Lanes16>(text, on_last)
    }

    // SAFETY, of all: a value exists only where the processor has the instructions; see `Lanes16`.
    impl Lanes for Lanes16 {
        #[inline(always)]
        fn ones() -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm_set1_epi8(-1) })
        }

        #[inline(always)]
        fn load(bytes: &[u8; 16]) -> Self {
            // SAFETY: as above; sixteen bytes are there, and the load asks for no alignment.
            Self(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm_and_si128(self.0, other.0) })
        }

        #[inline(always)]
        fn low(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm_and_si128(self.0, _mm_set1_epi8(15)) })
        }

        #[inline(always)]
        fn high(self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm_and_si128(_mm_srli_epi16::<4>(self.0), _mm_set1_epi8(15)) })
        }

        #[inline(always)]
        fn pick(self, at: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm_shuffle_epi8(self.0, at.0) })
        }

        #[inline(always)]
        fn behind<const N: i32>(self, before: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe {
                match N {
                    1 => _mm_alignr_epi8::<15>(self.0, before.0),
                    _ => _mm_alignr_epi8::<14>(self.0, before.0),
                }
            })
        }

        #[inline(always)]
        fn mask(self) -> u16 {
            // SAFETY: as above.
            let zeros = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, _mm_setzero_si128())) };
            // Sixteen bits.
            !(zeros as u16)
        }
    }
}
