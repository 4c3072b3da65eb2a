//! The interface between the SPI device and its controller: capabilities, settings and transfers.

use embedded_hal::spi::{Mode, Phase, Polarity};

use super::HEADER;
use crate::num;

/// Length of the configuration space in bytes.
const LEN: usize = 32;

bitflags::bitflags! {
    /// Numbers of data lines that a controller supports besides a single line.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiWidths: u8 {
        /// Two lines.
        const DUAL = 1;
        /// Four lines.
        const QUAD = 2;
        /// Eight lines.
        const OCTAL = 4;
    }
}

bitflags::bitflags! {
    /// Values that the `mode` field of a request may have.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiFunctions: u32 {
        /// CPHA may be 0.
        const CPHA_0 = 1;
        /// CPHA may be 1.
        const CPHA_1 = 2;
        /// CPOL may be 0.
        const CPOL_0 = 4;
        /// CPOL may be 1.
        const CPOL_1 = 8;
        /// Chip selects may be active high. Active low is always supported.
        const CS_HIGH = 0x10;
        /// The least significant bit of a word may be first. The other order is always supported.
        const LSB_FIRST = 0x20;
        /// Loopback is supported.
        const LOOP = 0x40;
    }
}

bitflags::bitflags! {
    /// The `mode` field of a request.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpiMode: u32 {
        /// Data is sampled on the second edge of each clock cycle. If the flag is clear, data is
        /// sampled on the first edge.
        const CPHA = 1;
        /// The clock idles high.
        const CPOL = 2;
        /// The chip select is active high.
        const CS_HIGH = 4;
        /// The least significant bit of each word comes first.
        const LSB_FIRST = 8;
        /// Loopback: the controller receives the data that it sends.
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
    /// Returns the functions that a controller must support for this mode.
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
        // The other three flags start at bit 2 of the mode and at bit 4 of the functions, in the
        // same order.
        let others = SpiFunctions::from_bits_truncate((self.bits() >> 2) << 4);
        phase.union(polarity).union(others)
    }

    /// Returns the clock mode, the part that embedded-hal can express.
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

    /// Converts a clock mode of embedded-hal.
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

/// The capabilities of a controller, as the configuration space shows them.
///
/// The default has no chip, single lines, words of 8 bits, mode 0, no limit of the rate, and no
/// delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiCapabilities {
    /// Number of chip selects.
    pub chip_selects: u8,
    /// Whether a driver can choose after which transfers a chip is deselected.
    ///
    /// If false, the controller must keep the chip selected throughout a message of several
    /// transfers. A request does not say where a message ends, so the controller must detect the
    /// end by itself.
    pub cs_change: bool,
    /// Numbers of data lines for sending, besides a single line.
    pub tx_widths: SpiWidths,
    /// Numbers of data lines for receiving, besides a single line.
    pub rx_widths: SpiWidths,
    /// Bit `n` is set if words of `n + 1` bits are supported. 0 means that words of any size are
    /// supported.
    pub bits_per_word_mask: u32,
    /// Values that the `mode` field may have. If neither value of CPHA is set, the device adds
    /// [`CPHA_0`](SpiFunctions::CPHA_0). If neither value of CPOL is set, the device adds
    /// [`CPOL_0`](SpiFunctions::CPOL_0).
    pub functions: SpiFunctions,
    /// Highest rate in Hz; 0 for no limit.
    pub max_freq_hz: u32,
    /// Longest pause between words in ns; 0 for no pause.
    pub max_word_delay_ns: u32,
    /// Longest pause after a chip is selected in ns; 0 for no pause.
    pub max_cs_setup_ns: u32,
    /// Longest pause before a chip is deselected in ns; 0 for no pause.
    pub max_cs_hold_ns: u32,
    /// Longest pause after a chip is deselected in ns; 0 for no pause.
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
    /// Returns the capabilities without reserved bits, and with at least one clock mode (spi-07,
    /// spi-09).
    pub(super) fn normalized(mut self) -> Self {
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

    /// Returns the bytes of the configuration space.
    pub(super) fn config_space(&self) -> [u8; LEN] {
        let mut space = [0; LEN];
        let first = [
            self.chip_selects,
            u8::from(self.cs_change),
            self.tx_widths.bits(),
            self.rx_widths.bits(),
        ];
        let words = [
            u32::from_le_bytes(first),
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

    /// Returns the settings that a request's header asks for, or `None` if a field is invalid or
    /// unsupported (spi-03, spi-04).
    pub(super) fn check(&self, header: &[u8; HEADER]) -> Option<SpiSettings> {
        let mut words = [0; HEADER / 4];
        let (chunks, _) = header.as_chunks();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u32::from_le_bytes(*chunk);
        }
        let [first, second, mode, freq, word_delay, setup, hold, inactive] = words;
        let [chip_select, bits_per_word, cs_change, tx_nbits] = first.to_le_bytes();
        // The remaining bytes are reserved and have no meaning yet.
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

/// Returns the number of lines that `tx_nbits` or `rx_nbits` asks for, or `None` if the controller
/// does not support that number (spi-11).
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

/// The settings of one transfer. The device has checked each setting against the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpiSettings {
    /// Chip select number of the chip.
    pub chip_select: u8,
    /// Size of a word in bits.
    pub bits_per_word: u8,
    /// Whether the chip is deselected after the transfer.
    ///
    /// If false, the chip stays selected until a later transfer or
    /// [`release`](SpiController::release) deselects it, or until another chip is selected.
    pub cs_change: bool,
    /// Number of data lines for sending: 1, 2, 4 or 8.
    pub tx_lines: u8,
    /// Number of data lines for receiving: 1, 2, 4 or 8.
    pub rx_lines: u8,
    /// Clock mode, polarity of the chip select, bit order and loopback.
    pub mode: SpiMode,
    /// Rate in Hz; 0 if the driver has no preference.
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
    /// Returns the header of a request that asks for these settings.
    pub(super) fn header(&self) -> [u8; HEADER] {
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
        let mut header = [0; HEADER];
        let (places, _) = header.as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        header
    }
}

/// The data of one transfer. The slice is never empty.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpiData<'a> {
    /// Half-duplex: receives until the slice is full. The slice is zeroed beforehand.
    Read(&'a mut [u8]),
    /// Half-duplex: sends the whole slice.
    Write(&'a [u8]),
    /// Full-duplex: sends the whole slice, and overwrites it with the received data.
    Exchange(&'a mut [u8]),
}

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SpiError {
    /// The capabilities allow each setting, but the controller does not support the combination.
    /// The driver gets PARAM_ERR.
    Unsupported,
    /// The bus or a pin failed. The driver gets TRANS_ERR, and
    /// [`HostFault::Backend`](crate::HostFault) is reported.
    Failed,
}

/// An SPI controller.
///
/// This crate implements the trait for [`SpiLines`](super::SpiLines) and
/// [`SpiDevices`](super::SpiDevices). Implement the trait for hardware that offers more, such as
/// more data lines or larger words.
pub trait SpiController {
    /// Returns the capabilities of the controller. They are constant between resets.
    fn capabilities(&self) -> SpiCapabilities;

    /// Executes one transfer, and returns when the transfer is complete.
    ///
    /// # Errors
    /// [`SpiError`]; the device then discards the received data.
    fn transfer(&mut self, settings: &SpiSettings, data: SpiData<'_>) -> Result<(), SpiError>;

    /// Deselects the chip that is selected.
    ///
    /// The device calls this method on a reset and when its queue stops. A host may call the method
    /// between two requests, to end a message whose end the driver does not mark.
    fn release(&mut self) {}

    /// Returns the settings of the last transfer if its chip is still selected. A snapshot saves
    /// the settings.
    ///
    /// The default returns `None`, for a controller that never keeps a chip selected.
    fn selected(&self) -> Option<SpiSettings> {
        None
    }

    /// Selects a chip again for a restore, with the settings that [`selected`](Self::selected)
    /// returned at the save. The device has checked each setting against the capabilities.
    ///
    /// # Errors
    /// [`SpiError`]; no chip is selected then. The default returns [`SpiError::Unsupported`].
    fn reselect(&mut self, settings: &SpiSettings) -> Result<(), SpiError> {
        let _ = settings;
        Err(SpiError::Unsupported)
    }
}

/// Converts a number of chips to a number of chip selects, at most 255.
pub(super) fn count(chips: usize) -> u8 {
    let [low, high] = num::clamp_u16(chips).to_le_bytes();
    if high == 0 { low } else { u8::MAX }
}
