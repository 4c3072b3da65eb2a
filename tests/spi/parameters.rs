//! Which heads are refused, and what a controller gets for the others.

use virtside::models::spi::{SpiCapabilities, SpiFunctions, SpiMode, SpiSettings, SpiWidths};
use virtside_tests::models::spi::*;

/// Whether a controller accepts a head, in all three types of transfer.
fn takes(rig: &mut SpiRig<Recorder>, head: Head) -> bool {
    let results = [(&[1, 2, 3][..], 0), (&[], 3), (&[1, 2, 3], 3)]
        .map(|(tx, room)| rig.ask(head, tx, room).result);
    assert_eq!(rig.host_fault(), None, "the host is not at fault");
    let calls = rig.calls().len();
    match results {
        [OK, OK, OK] if calls == 3 => true,
        [PARAM_ERR, PARAM_ERR, PARAM_ERR] if calls == 0 => false,
        other => panic!("{other:?} after {calls} transfers"),
    }
}

/// A controller with these capabilities.
fn with(capabilities: SpiCapabilities) -> SpiRig<Recorder> {
    SpiRig::over(Recorder::new(capabilities))
}

fn takes_any(heads: impl IntoIterator<Item = Head>) -> Vec<bool> {
    let mut rig = SpiRig::new();
    heads
        .into_iter()
        .map(|head| takes(&mut rig, head))
        .collect()
}

#[test]
fn mandatory_parameters_are_always_supported() {
    // Single lines, active-low chip selects, most significant bit first, no loopback, and the only
    // CPHA and CPOL.
    for tx_nbits in [0, 1] {
        for rx_nbits in [0, 1] {
            for mode in 0..4 {
                let clock = SpiMode::from_bits_truncate(mode).needs();
                let capabilities = SpiCapabilities {
                    chip_selects: 1,
                    functions: clock,
                    ..Default::default()
                };
                let mut rig = with(capabilities);
                let head = Head {
                    tx_nbits,
                    rx_nbits,
                    mode,
                    ..PLAIN
                };
                assert!(takes(&mut rig, head));
                assert!(!takes(
                    &mut rig,
                    Head {
                        mode: mode ^ 1,
                        ..head
                    }
                ));
                assert!(!takes(
                    &mut rig,
                    Head {
                        mode: mode ^ 2,
                        ..head
                    }
                ));
            }
        }
    }
}

#[test]
fn a_chip_that_does_not_exist_is_refused() {
    let heads = [0, 1, 2, 3, 4, 255].map(|chip_select| Head {
        chip_select,
        ..PLAIN
    });
    assert_eq!(takes_any(heads), [true, true, true, false, false, false]);
    assert!(!takes(&mut with(SpiCapabilities::default()), PLAIN));
    let mut all = with(SpiCapabilities {
        chip_selects: 255,
        ..everything()
    });
    assert!(takes(
        &mut all,
        Head {
            chip_select: 254,
            ..PLAIN
        }
    ));
    assert!(!takes(
        &mut all,
        Head {
            chip_select: 255,
            ..PLAIN
        }
    ));
}

#[test]
fn only_word_sizes_in_the_mask_are_accepted() {
    let mut some = SpiRig::new();
    let mut any = with(SpiCapabilities {
        bits_per_word_mask: 0,
        ..everything()
    });
    for bits_per_word in 0..=255 {
        let head = Head {
            bits_per_word,
            ..PLAIN
        };
        assert_eq!(takes(&mut some, head), [8, 16, 32].contains(&bits_per_word));
        // Without a mask every word size is accepted, except 0 bits.
        assert_eq!(takes(&mut any, head), bits_per_word != 0);
    }
    for bit in 0..32 {
        let mut one = with(SpiCapabilities {
            bits_per_word_mask: 1 << bit,
            ..everything()
        });
        assert!(takes(
            &mut one,
            Head {
                bits_per_word: bit + 1,
                ..PLAIN
            }
        ));
        assert!(!takes(
            &mut one,
            Head {
                bits_per_word: bit,
                ..PLAIN
            }
        ));
        assert!(!takes(
            &mut one,
            Head {
                bits_per_word: bit + 2,
                ..PLAIN
            }
        ));
        assert!(!takes(
            &mut one,
            Head {
                bits_per_word: bit + 33,
                ..PLAIN
            }
        ));
    }
}

#[test]
fn cs_change_is_0_or_1_and_0_where_it_is_not_supported() {
    let heads = [0, 1, 2, 255].map(|cs_change| Head { cs_change, ..PLAIN });
    assert_eq!(takes_any(heads), [true, true, false, false]);
    let mut without = with(SpiCapabilities {
        cs_change: false,
        ..everything()
    });
    assert!(takes(&mut without, PLAIN));
    assert!(!takes(
        &mut without,
        Head {
            cs_change: 1,
            ..PLAIN
        }
    ));
}

#[test]
fn line_counts_are_0_1_2_4_and_8_as_far_as_supported() {
    let needs = |nbits| match nbits {
        0 | 1 => Some(SpiWidths::empty()),
        2 => Some(SpiWidths::DUAL),
        4 => Some(SpiWidths::QUAD),
        8 => Some(SpiWidths::OCTAL),
        _ => None,
    };
    for set in 0..8 {
        let widths = SpiWidths::from_bits_truncate(set);
        // Each direction by itself.
        let none = SpiCapabilities {
            tx_widths: SpiWidths::empty(),
            rx_widths: SpiWidths::empty(),
            ..everything()
        };
        let mut sending = with(SpiCapabilities {
            tx_widths: widths,
            ..none
        });
        let mut receiving = with(SpiCapabilities {
            rx_widths: widths,
            ..none
        });
        for nbits in 0..=255 {
            let expected = needs(nbits).is_some_and(|needs| widths.contains(needs));
            assert_eq!(
                takes(
                    &mut sending,
                    Head {
                        tx_nbits: nbits,
                        ..PLAIN
                    }
                ),
                expected
            );
            assert_eq!(
                takes(
                    &mut receiving,
                    Head {
                        rx_nbits: nbits,
                        ..PLAIN
                    }
                ),
                expected
            );
        }
    }
}

#[test]
fn modes_are_accepted_if_they_are_supported() {
    // The mode bit, and the bits of mode_func_supported for its values 0 and 1.
    let bits = [
        (1, 0x01, 0x02),
        (2, 0x04, 0x08),
        (4, 0, 0x10),
        (8, 0, 0x20),
        (16, 0, 0x40),
    ];
    for functions in 0..0x80u32 {
        // A controller extends sets without a CPHA or a CPOL, so they are skipped.
        if functions & 3 == 0 || functions & 12 == 0 {
            continue;
        }
        let set = SpiFunctions::from_bits_truncate(functions);
        let mut rig = with(SpiCapabilities {
            functions: set,
            ..everything()
        });
        for mode in 0..32 {
            let expected = bits.iter().all(|&(bit, zero, one)| {
                let needed = if mode & bit == 0 { zero } else { one };
                functions & needed == needed
            });
            assert_eq!(takes(&mut rig, Head { mode, ..PLAIN }), expected);
        }
    }
}

#[test]
fn unknown_bits_of_the_mode_are_refused() {
    let heads = (5..32).map(|bit| Head {
        mode: 1 << bit,
        ..PLAIN
    });
    assert_eq!(takes_any(heads), [false; 27]);
}

#[test]
fn a_rate_above_the_highest_is_refused() {
    let heads = [0, 1, 8_000_000, 8_000_001, u32::MAX].map(|freq| Head { freq, ..PLAIN });
    assert_eq!(takes_any(heads), [true, true, true, false, false]);
    let mut unlimited = with(SpiCapabilities {
        max_freq_hz: 0,
        ..everything()
    });
    assert!(heads.into_iter().all(|head| takes(&mut unlimited, head)));
}

#[test]
fn a_pause_above_the_longest_is_refused() {
    let pause = |which: usize, ns: u32| {
        let mut head = PLAIN;
        *[
            &mut head.word_delay,
            &mut head.cs_setup,
            &mut head.cs_hold,
            &mut head.cs_inactive,
        ][which] = ns;
        head
    };
    // Without a limit no pause can be requested.
    let mut none = with(SpiCapabilities {
        max_word_delay_ns: 0,
        max_cs_setup_ns: 0,
        max_cs_hold_ns: 0,
        max_cs_inactive_ns: 0,
        ..everything()
    });
    for (which, longest) in [1000, 2000, 3000, 4000].into_iter().enumerate() {
        let heads = [0, 1, longest, longest + 1, u32::MAX].map(|ns| pause(which, ns));
        assert_eq!(takes_any(heads), [true, true, true, false, false]);
        assert!(takes(&mut none, pause(which, 0)));
        assert!(!takes(&mut none, pause(which, 1)));
    }
}

#[test]
fn the_reserved_bytes_do_not_matter() {
    assert!(takes(
        &mut SpiRig::new(),
        Head {
            reserved: [0xff, 1, 0x80],
            ..PLAIN
        }
    ));
}

#[test]
fn the_controller_gets_what_was_asked_for() {
    let mut rig = SpiRig::new();
    let head = Head {
        chip_select: 2,
        bits_per_word: 16,
        cs_change: 1,
        tx_nbits: 4,
        rx_nbits: 8,
        reserved: [0; 3],
        mode: 0x1d,
        freq: 123_456,
        word_delay: 11,
        cs_setup: 22,
        cs_hold: 33,
        cs_inactive: 44,
    };
    let expected = SpiSettings {
        chip_select: 2,
        bits_per_word: 16,
        cs_change: true,
        tx_lines: 4,
        rx_lines: 8,
        mode: SpiMode::CPHA | SpiMode::CS_HIGH | SpiMode::LSB_FIRST | SpiMode::LOOP,
        freq_hz: 123_456,
        word_delay_ns: 11,
        cs_setup_ns: 22,
        cs_hold_ns: 33,
        cs_inactive_ns: 44,
    };
    assert_eq!(rig.ask(head, &[1, 2], 0), outcome(OK));
    assert_eq!(rig.calls(), [(expected, Data::Write(vec![1, 2]))]);
    // 0 lines mean one.
    rig.ask(PLAIN, &[], 1);
    let (settings, _) = rig.calls().remove(0);
    assert_eq!((settings.tx_lines, settings.rx_lines), (1, 1));
    assert_eq!(
        (settings.mode, settings.cs_change),
        (SpiMode::empty(), false)
    );
}
