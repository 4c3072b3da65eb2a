//! What a controller is to the SPI device: what it can do, and what it is asked for.

use embedded_hal::spi::{Mode, Phase, Polarity};

use super::HEAD;
use crate::num;

/// Bytes of the configuration space.
const LEN: usize = 32;

bitflags::bitflags! {
    /// Numbers of data lines, beside the one that is always there.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiWidths: u8 {
        /// Two.
        const DUAL = 1;
        /// Four.
        const QUAD = 2;
        /// Eight.
        const OCTAL = 4;
    }
}

bitflags::bitflags! {
    /// What `mode` of a request may ask for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiFunctions: u32 {
        /// CPHA = 0.
        const CPHA_0 = 1;
        /// CPHA = 1.
        const CPHA_1 = 2;
        /// CPOL = 0.
        const CPOL_0 = 4;
        /// CPOL = 1.
        const CPOL_1 = 8;
        /// Chip selects that are active high, beside those that are active low.
        const CS_HIGH = 0x10;
        /// Words with the least significant bit first, beside the other order.
        const LSB_FIRST = 0x20;
        /// Loopback.
        const LOOP = 0x40;
    }
}

bitflags::bitflags! {
    /// `mode` of a request.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiMode: u32 {
        /// Data is sampled on the second edge of each clock cycle, not on the first.
        const CPHA = 1;
        /// The clock idles high.
        const CPOL = 2;
        /// The chip select is active high.
        const CS_HIGH = 4;
        /// The least significant bit of each word comes first.
        const LSB_FIRST = 8;
        /// What is sent is received.
        const LOOP = 0x10;
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for SpiWidths {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "SpiWidths({=u8:#x})", self.bits());
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for SpiFunctions {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "SpiFunctions({=u32:#x})", self.bits());
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for SpiMode {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "SpiMode({=u32:#x})", self.bits());
    }
}

impl SpiMode {
    /// What has to be supported for this.
    #[must_use]
    pub const fn needs(self) -> SpiFunctions {
        let pairs = [
            (Self::CPHA, SpiFunctions::CPHA_1, SpiFunctions::CPHA_0),
            (Self::CPOL, SpiFunctions::CPOL_1, SpiFunctions::CPOL_0),
        ];
        let [(cpha, phase, no_phase), (cpol, polarity, no_polarity)] = pairs;
        let phase = if self.contains(cpha) { phase } else { no_phase };
        let polarity = if self.contains(cpol) {
            polarity
        } else {
            no_polarity
        };
        // The other three are in the same order, from bit 2 and bit 4 on.
        let others = SpiFunctions::from_bits_truncate((self.bits() >> 2) << 4);
        phase.union(polarity).union(others)
    }

    /// The part of it that embedded-hal has a word for.
    #[must_use]
    pub const fn clock(self) -> Mode {
        Mode {
            polarity: if self.contains(Self::CPOL) {
                Polarity::IdleHigh
            } else {
                Polarity::IdleLow
            },
            phase: if self.contains(Self::CPHA) {
                Phase::CaptureOnSecondTransition
            } else {
                Phase::CaptureOnFirstTransition
            },
        }
    }

    /// From embedded-hal's.
    #[must_use]
    pub const fn from_clock(mode: Mode) -> Self {
        let polarity = match mode.polarity {
            Polarity::IdleHigh => Self::CPOL,
            Polarity::IdleLow => Self::empty(),
        };
        let phase = match mode.phase {
            Phase::CaptureOnSecondTransition => Self::CPHA,
            Phase::CaptureOnFirstTransition => Self::empty(),
        };
        polarity.union(phase)
    }
}

/// What a controller can do, as the configuration space shows it.
///
/// The default is no chip at all, single lines, words of 8 bits, mode 0, any rate, and no delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiCapabilities {
    /// Number of chip selects.
    pub chip_selects: u8,
    /// Whether a driver says after which transfers a chip is deselected. A controller without it must
    /// keep the chip selected throughout a message of several transfers, and has to know by itself
    /// where a message ends: a request does not say.
    pub cs_change: bool,
    /// Widths in which to send.
    pub tx_widths: SpiWidths,
    /// Widths in which to receive.
    pub rx_widths: SpiWidths,
    /// Bit `n` is set if words of `n + 1` bits are supported; 0 for words of any size.
    pub bits_per_word_mask: u32,
    /// What `mode` may ask for. CPHA = 0 and CPOL = 0 are added if no other value is there.
    pub functions: SpiFunctions,
    /// The highest rate in Hz; 0 for no limit.
    pub max_freq_hz: u32,
    /// The longest pause between words in ns; 0 for none.
    pub max_word_delay_ns: u32,
    /// The longest pause after a chip is selected in ns; 0 for none.
    pub max_cs_setup_ns: u32,
    /// The longest pause before a chip is deselected in ns; 0 for none.
    pub max_cs_hold_ns: u32,
    /// The longest pause after a chip is deselected in ns; 0 for none.
    pub max_cs_inactive_ns: u32,
}

impl Default for SpiCapabilities {
    fn default() -> Self {
        Self {
            chip_selects: 0,
            cs_change: false,
            tx_widths: SpiWidths::empty(),
            rx_widths: SpiWidths::empty(),
            bits_per_word_mask: 1 << 7,
            functions: SpiFunctions::CPHA_0.union(SpiFunctions::CPOL_0),
            max_freq_hz: 0,
            max_word_delay_ns: 0,
            max_cs_setup_ns: 0,
            max_cs_hold_ns: 0,
            max_cs_inactive_ns: 0,
        }
    }
}

impl SpiCapabilities {
    /// Without reserved bits, and with a clock at least (spi-07, spi-09).
    pub(super) fn tidy(mut self) -> Self {
        self.tx_widths = SpiWidths::from_bits_truncate(self.tx_widths.bits());
        self.rx_widths = SpiWidths::from_bits_truncate(self.rx_widths.bits());
        self.functions = SpiFunctions::from_bits_truncate(self.functions.bits());
        for pair in [
            [SpiFunctions::CPHA_0, SpiFunctions::CPHA_1],
            [SpiFunctions::CPOL_0, SpiFunctions::CPOL_1],
        ] {
            let [low, high] = pair;
            if !self.functions.intersects(low.union(high)) {
                self.functions = self.functions.union(low);
            }
        }
        self
    }

    /// The configuration space.
    pub(super) fn space(&self) -> [u8; LEN] {
        let mut space = [0; LEN];
        let head = [
            self.chip_selects,
            u8::from(self.cs_change),
            self.tx_widths.bits(),
            self.rx_widths.bits(),
        ];
        let words = [
            u32::from_le_bytes(head),
            self.bits_per_word_mask,
            self.functions.bits(),
            self.max_freq_hz,
            self.max_word_delay_ns,
            self.max_cs_setup_ns,
            self.max_cs_hold_ns,
            self.max_cs_inactive_ns,
        ];
        let (places, _) = space.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        space
    }

    /// What a head asks for, if every field is valid and supported (spi-03, spi-04).
    pub(super) fn check(&self, head: &[u8; HEAD]) -> Option<SpiSettings> {
        let mut words = [0; HEAD / 4];
        let (chunks, _) = head.as_chunks();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u32::from_le_bytes(*chunk);
        }
        let [first, second, mode, freq, word_delay, setup, hold, inactive] = words;
        let [chip_select, bits_per_word, cs_change, tx_nbits] = first.to_le_bytes();
        // The reserved bytes may mean anything one day; today they mean nothing.
        let [rx_nbits, _, _, _] = second.to_le_bytes();
        let settings = SpiSettings {
            chip_select,
            bits_per_word,
            cs_change: cs_change != 0,
            tx_lines: lines(tx_nbits, self.tx_widths)?,
            rx_lines: lines(rx_nbits, self.rx_widths)?,
            mode: SpiMode::from_bits(mode)?,
            freq_hz: freq,
            word_delay_ns: word_delay,
            cs_setup_ns: setup,
            cs_hold_ns: hold,
            cs_inactive_ns: inactive,
        };
        let good = chip_select < self.chip_selects
            && self.has_words_of(bits_per_word)
            && cs_change <= u8::from(self.cs_change)
            && self.functions.contains(settings.mode.needs())
            && (self.max_freq_hz == 0 || freq <= self.max_freq_hz)
            && word_delay <= self.max_word_delay_ns
            && setup <= self.max_cs_setup_ns
            && hold <= self.max_cs_hold_ns
            && inactive <= self.max_cs_inactive_ns;
        good.then_some(settings)
    }

    fn has_words_of(&self, bits: u8) -> bool {
        let Some(bit) = bits.checked_sub(1) else {
            return false;
        };
        self.bits_per_word_mask == 0
            || 1u32
                .checked_shl(bit.into())
                .is_some_and(|bit| self.bits_per_word_mask & bit != 0)
    }
}

/// How many lines `tx_nbits` or `rx_nbits` asks for (spi-11).
fn lines(nbits: u8, widths: SpiWidths) -> Option<u8> {
    let needs = match nbits {
        0 | 1 => SpiWidths::empty(),
        2 => SpiWidths::DUAL,
        4 => SpiWidths::QUAD,
        8 => SpiWidths::OCTAL,
        _ => return None,
    };
    widths.contains(needs).then_some(nbits.max(1))
}

/// What a driver asks for with one transfer; everything was checked against the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiSettings {
    /// Which chip.
    pub chip_select: u8,
    /// Bits of a word.
    pub bits_per_word: u8,
    /// Whether the chip is deselected afterwards; if not, it stays selected until it is, or until
    /// another one is selected.
    pub cs_change: bool,
    /// Data lines to send on: 1, 2, 4 or 8.
    pub tx_lines: u8,
    /// Data lines to receive on: 1, 2, 4 or 8.
    pub rx_lines: u8,
    /// Clock, chip select and bit order.
    pub mode: SpiMode,
    /// Rate in Hz; 0 where the driver does not care.
    pub freq_hz: u32,
    /// Pause between words in ns.
    pub word_delay_ns: u32,
    /// Pause after the chip is selected in ns.
    pub cs_setup_ns: u32,
    /// Pause before the chip is deselected in ns.
    pub cs_hold_ns: u32,
    /// Pause after the chip is deselected in ns.
    pub cs_inactive_ns: u32,
}

impl SpiSettings {
    /// The head of a request that asks for this.
    pub(super) fn head(&self) -> [u8; HEAD] {
        let first = [
            self.chip_select,
            self.bits_per_word,
            u8::from(self.cs_change),
            self.tx_lines,
        ];
        let words = [
            u32::from_le_bytes(first),
            u32::from(self.rx_lines),
            self.mode.bits(),
            self.freq_hz,
            self.word_delay_ns,
            self.cs_setup_ns,
            self.cs_hold_ns,
            self.cs_inactive_ns,
        ];
        let mut head = [0; HEAD];
        let (places, _) = head.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        head
    }
}

/// The data of one transfer; never empty.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpiData<'a> {
    /// Half-duplex: fills all of it. It is zeroed before.
    Read(&'a mut [u8]),
    /// Half-duplex: sends all of it.
    Write(&'a [u8]),
    /// Full-duplex: sends all of it, and puts what is received in its place.
    Exchange(&'a mut [u8]),
}

/// Why there was no transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpiError {
    /// Not with these settings, although the capabilities allow each of them: PARAM_ERR.
    Unsupported,
    /// The bus or a pin failed: TRANS_ERR, and [`HostFault::Backend`](crate::HostFault) is reported.
    Failed,
}

/// A controller.
///
/// Implemented here for [`SpiLines`](super::SpiLines) and [`SpiDevices`](super::SpiDevices). With
/// hardware that has more to offer (more data lines, larger words), implement it for that.
pub trait SpiController {
    /// What it can do. Constant between resets.
    fn capabilities(&self) -> SpiCapabilities;

    /// Does one transfer, and returns when it is done.
    ///
    /// # Errors
    /// [`SpiError`]; what was received does not matter then.
    fn transfer(&mut self, settings: &SpiSettings, data: SpiData<'_>) -> Result<(), SpiError>;

    /// Deselects whatever is selected. Called when the driver is gone; a host may call it between two
    /// requests, to end a message whose end the driver does not mark.
    fn release(&mut self) {}

    /// What the chip was last asked for that is selected between two transfers: for a snapshot. By
    /// default none ever is.
    fn selected(&self) -> Option<SpiSettings> {
        None
    }

    /// Selects the chip that [`selected`](Self::selected) named elsewhere; everything was checked
    /// against the capabilities.
    ///
    /// # Errors
    /// [`SpiError`]; nothing is selected then. By default no chip can be.
    fn reselect(&mut self, settings: &SpiSettings) -> Result<(), SpiError> {
        let _ = settings;
        Err(SpiError::Unsupported)
    }
}

/// A count as a number of chip selects.
pub(super) fn count(chips: usize) -> u8 {
    let [low, high] = num::clamp_u16(chips).to_le_bytes();
    if high == 0 { low } else { u8::MAX }
}
