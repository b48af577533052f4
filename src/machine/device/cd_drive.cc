// Section numbers: SPC-3 (T10/1416-D) for what every SCSI device answers, MMC-5 (T10/1675-D)
// for drives. CDBs and answers are big-endian.
#include "machine/device/cd_drive.h"

#include <algorithm>
#include <array>

namespace vmhost::machine {

namespace {

enum Opcode : std::uint8_t {
    test_unit_ready = 0x00,
    request_sense_6 = 0x03,
    read_6 = 0x08,
    inquiry_6 = 0x12,
    mode_sense_6 = 0x1a,
    start_stop_unit = 0x1b,
    prevent_allow = 0x1e,
    read_capacity_10 = 0x25,
    read_10 = 0x28,
    seek_10 = 0x2b,
    read_toc_10 = 0x43,
    configuration = 0x46,
    event_status = 0x4a,
    disc_information = 0x51,
    mode_sense_10 = 0x5a,
    read_16 = 0x88,
    service_action_in = 0x9e, // READ CAPACITY(16) is its action 0x10
    report_luns_12 = 0xa0,
    read_12 = 0xa8,
    set_cd_speed = 0xbb,
    mechanism = 0xbd,
    read_cd_12 = 0xbe,
};

constexpr CdDrive::Sense no_medium_tray_closed{2, 0x3a, 0x01}, no_medium_tray_open{2, 0x3a, 0x02},
    unknown_command{5, 0x20, 0}, out_of_range{5, 0x21, 0}, invalid_field{5, 0x24, 0},
    no_saved_values{5, 0x39, 0}, removal_prevented{5, 0x53, 0x02}, medium_changed{6, 0x28, 0},
    powered_on{6, 0x29, 0};

constexpr std::uint8_t cd_type = 0x05;
constexpr std::uint16_t profile_cd = 0x0008, profile_dvd = 0x0010;
// More than 80 minutes of 75 blocks a second are no CD.
constexpr std::uint64_t max_cd_blocks = 80 * 60 * 75;
constexpr std::uint16_t speed_kb_s = 8800; // of a 50x drive; nobody goes by it
constexpr std::uint8_t lead_out = 0xaa;

constexpr const char* vendor = "OpenBSD ";
constexpr const char* product = "VMM CD-ROM      ";
constexpr const char* revision = "001 ";

template <WireInteger T>
T be(Bytes cdb, std::size_t offset) {
    return load_be<T>(cdb.subspan(offset));
}

std::uint32_t be24(Bytes cdb, std::size_t offset) {
    return be<std::uint32_t>(cdb, offset) >> 8;
}

// An address in a table of contents: a block number, or minutes, seconds and frames from 150
// blocks before the first one (MMC-5, 4.3.1).
void put_address(ByteWriter& out, std::uint64_t block, bool as_time) {
    if (!as_time)
        return out.be(static_cast<std::uint32_t>(std::min<std::uint64_t>(block, UINT32_MAX)));
    auto frames = block + 150;
    out.be<std::uint8_t>(0);
    out.be(static_cast<std::uint8_t>(std::min<std::uint64_t>(frames / (60 * 75), 255)));
    out.be(static_cast<std::uint8_t>(frames / 75 % 60));
    out.be(static_cast<std::uint8_t>(frames % 75));
}

void put_feature(ByteWriter& out, std::uint16_t code, bool current, bool persistent, Bytes body) {
    out.be(code);
    out.be(static_cast<std::uint8_t>((persistent ? 2 : 0) | (current ? 1 : 0)));
    out.be(static_cast<std::uint8_t>(body.size()));
    out.bytes(body);
}

// Read error recovery (MMC-5, 7.3): as little as one can say.
std::vector<std::uint8_t> error_recovery_page(bool changeable) {
    std::vector<std::uint8_t> page(12);
    page[0] = 0x01;
    page[1] = 10;
    page[3] = changeable ? 0 : 5; // retries
    return page;
}

// Capabilities and mechanical status (MMC-5, 7.11 and before).
std::vector<std::uint8_t> capabilities_page(bool changeable, bool locked) {
    std::vector<std::uint8_t> page(22);
    MutableBytes bytes(page);
    page[0] = 0x2a;
    page[1] = 20;
    if (changeable)
        return page;
    page[2] = 0x0b;                       // reads CD-R, CD-RW, DVD-ROM
    page[6] = 0x29 | (locked ? 0x02 : 0); // a tray that locks and ejects
    store_be<std::uint16_t>(bytes.subspan(8), speed_kb_s);
    store_be<std::uint16_t>(bytes.subspan(12), 512); // buffer, KiB
    store_be<std::uint16_t>(bytes.subspan(14), speed_kb_s);
    return page;
}

} // namespace

std::vector<std::uint8_t> CdDrive::format(const Sense& sense) {
    std::vector<std::uint8_t> raw(sense_bytes);
    raw[0] = 0x70;
    raw[2] = sense.key;
    raw[7] = sense_bytes - 8;
    raw[12] = sense.code;
    raw[13] = sense.qualifier;
    return raw;
}

CdDrive::Outcome CdDrive::check(const Sense& sense) {
    last_sense_ = sense;
    Outcome outcome;
    outcome.sense = sense;
    return outcome;
}

CdDrive::Outcome CdDrive::give(std::vector<std::uint8_t> data, std::uint64_t allocation_bytes) {
    if (data.size() > allocation_bytes)
        data.resize(allocation_bytes);
    Outcome outcome;
    outcome.data = std::move(data);
    return outcome;
}

CdDrive::Outcome CdDrive::read(std::uint64_t first_block, std::uint64_t block_count) {
    if (!ready())
        return check(tray_open_ ? no_medium_tray_open : no_medium_tray_closed);
    if (!range_fits(first_block, block_count, blocks_))
        return check(out_of_range);
    // One command must not hold a pool thread, and the end of the machine, for long.
    if (block_count > limits::max_block_request_bytes / block_bytes)
        return check(invalid_field);
    Outcome outcome;
    outcome.first_block = first_block;
    outcome.block_count = static_cast<std::uint32_t>(block_count);
    return outcome;
}

// A unit attention is told once, by the next command that is not exempt (SPC-3, 5.8.5).
std::optional<CdDrive::Sense> CdDrive::take_attention() {
    if (std::exchange(power_on_attention_, false)) {
        medium_attention_ = false; // whoever powers on looks at the medium anyway
        return powered_on;
    }
    if (std::exchange(medium_attention_, false))
        return medium_changed;
    return std::nullopt;
}

void CdDrive::reset() {
    locked_ = false;
    power_on_attention_ = true;
    media_event_ = MediaEvent::none;
    last_sense_ = {};
}

void CdDrive::change_medium(std::uint64_t blocks) {
    blocks_ = blocks;
    tray_open_ = blocks == 0;
    locked_ = false;
    medium_attention_ = blocks != 0;
    media_event_ = blocks != 0 ? MediaEvent::new_medium : MediaEvent::removal;
}

CdDrive::Outcome CdDrive::execute(Bytes received) {
    std::array<std::uint8_t, 16> whole{};
    std::ranges::copy(received.first(std::min(received.size(), whole.size())), whole.begin());
    const Bytes cdb(whole);
    const auto opcode = cdb[0];
    if (opcode == request_sense_6)
        return request_sense(cdb);
    last_sense_ = {};
    // Exempt from unit attention (SPC-3, 5.8.5; MMC-5, 4.1.6.1).
    switch (opcode) {
    case inquiry_6:
        return inquiry(cdb);
    case report_luns_12:
        return report_luns(cdb);
    case configuration:
        return get_configuration(cdb);
    case event_status:
        return get_event_status(cdb);
    default:
        break;
    }
    if (auto attention = take_attention())
        return check(*attention);
    switch (opcode) {
    case test_unit_ready:
        return read(0, 0);
    case read_6:
        return read(be24(cdb, 1) & 0x1fffff, cdb[4] == 0 ? 256 : cdb[4]);
    case read_10:
        return read(be<std::uint32_t>(cdb, 2), be<std::uint16_t>(cdb, 7));
    case read_12:
        return read(be<std::uint32_t>(cdb, 2), be<std::uint32_t>(cdb, 6));
    case read_16:
        return read(be<std::uint64_t>(cdb, 2), be<std::uint32_t>(cdb, 10));
    case seek_10: {
        auto outcome = read(be<std::uint32_t>(cdb, 2), 1);
        outcome.block_count = 0;
        return outcome;
    }
    case read_cd_12:
        return read_cd(cdb);
    case read_capacity_10:
    case service_action_in:
        return read_capacity(cdb);
    case mode_sense_6:
    case mode_sense_10:
        return mode_sense(cdb);
    case start_stop_unit:
        return start_stop(cdb);
    case prevent_allow:
        locked_ = cdb[4] & 1;
        return {};
    case read_toc_10:
        return read_toc(cdb);
    case disc_information:
        return read_disc_information(cdb);
    case mechanism:
        return mechanism_status(cdb);
    case set_cd_speed:
        return {};
    default:
        return check(unknown_command);
    }
}

// SPC-3, 6.27. Descriptor format is not offered.
CdDrive::Outcome CdDrive::request_sense(Bytes cdb) {
    if (cdb[1] & 1)
        return check(invalid_field);
    auto sense = std::exchange(last_sense_, {});
    if (sense == Sense{})
        sense = take_attention().value_or(Sense{});
    return give(format(sense), cdb[4]);
}

// SPC-3, 6.4 and 7.6.
CdDrive::Outcome CdDrive::inquiry(Bytes cdb) {
    const std::uint64_t allocation = be<std::uint16_t>(cdb, 3);
    const auto page = cdb[2];
    ByteWriter out;
    out.be(cd_type);
    if (!(cdb[1] & 1)) {
        if (page != 0)
            return check(invalid_field);
        out.be<std::uint8_t>(0x80); // removable
        out.be<std::uint8_t>(0x05); // SPC-3
        out.be<std::uint8_t>(0x02); // response format
        out.be<std::uint8_t>(31);   // bytes that follow
        out.zeros(2);
        out.be<std::uint8_t>(0x02); // queues commands
        out.bytes(as_bytes(vendor));
        out.bytes(as_bytes(product));
        out.bytes(as_bytes(revision));
        return give(out.take(), allocation);
    }
    ByteWriter body;
    switch (page) {
    case 0x00: // the pages there are
        body.bytes(std::array<std::uint8_t, 3>{0x00, 0x80, 0x83});
        break;
    case 0x80: // serial number
        body.bytes(as_bytes(serial_));
        break;
    case 0x83:                       // identification: one name, of vendor and serial
        body.be<std::uint8_t>(0x02); // ASCII
        body.be<std::uint8_t>(0x01); // begins with the vendor
        body.zeros(1);
        body.be(static_cast<std::uint8_t>(8 + serial_.size()));
        body.bytes(as_bytes(vendor));
        body.bytes(as_bytes(serial_));
        break;
    default:
        return check(invalid_field);
    }
    out.be(page);
    out.be(static_cast<std::uint16_t>(body.size()));
    out.bytes(body.buffer());
    return give(out.take(), allocation);
}

// SPC-3, 6.9 and 6.10; no block descriptors.
CdDrive::Outcome CdDrive::mode_sense(Bytes cdb) {
    const bool six = cdb[0] == mode_sense_6;
    const auto control = cdb[2] >> 6, page = cdb[2] & 0x3f;
    if (control == 3)
        return check(no_saved_values);
    const bool changeable = control == 1;
    ByteWriter pages;
    if (page == 0x01 || page == 0x3f)
        pages.bytes(error_recovery_page(changeable));
    if (page == 0x2a || page == 0x3f)
        pages.bytes(capabilities_page(changeable, locked_));
    if (pages.size() == 0)
        return check(invalid_field);
    ByteWriter out;
    if (six) {
        out.be(static_cast<std::uint8_t>(3 + pages.size()));
        out.zeros(3);
    } else {
        out.be(static_cast<std::uint16_t>(6 + pages.size()));
        out.zeros(6);
    }
    out.bytes(pages.buffer());
    return give(out.take(), six ? cdb[4] : be<std::uint16_t>(cdb, 7));
}

// MMC-5, 6.46: power conditions and spinning up mean nothing here; LoEj moves the tray.
CdDrive::Outcome CdDrive::start_stop(Bytes cdb) {
    const bool start = cdb[4] & 1, load_eject = cdb[4] & 2;
    if (cdb[4] >> 4 != 0 || !load_eject)
        return {};
    if (!start && locked_)
        return check(removal_prevented);
    if (start == !tray_open_)
        return {};
    tray_open_ = !start;
    if (start && blocks_ != 0) {
        medium_attention_ = true;
        media_event_ = MediaEvent::new_medium;
    }
    return {};
}

// MMC-5, 6.27, and SBC-3 for the long form.
CdDrive::Outcome CdDrive::read_capacity(Bytes cdb) {
    const bool longer = cdb[0] == service_action_in;
    if (longer && (cdb[1] & 0x1f) != 0x10)
        return check(invalid_field);
    if (auto here = read(0, 1); here.sense)
        return here;
    ByteWriter out;
    auto last = blocks_ - 1;
    if (!longer) {
        out.be(static_cast<std::uint32_t>(std::min<std::uint64_t>(last, UINT32_MAX)));
        out.be(block_bytes);
        return give(out.take(), 8);
    }
    out.be(last);
    out.be(block_bytes);
    out.zeros(20);
    return give(out.take(), be<std::uint32_t>(cdb, 10));
}

// MMC-5, 6.31: one data track in one session.
CdDrive::Outcome CdDrive::read_toc(Bytes cdb) {
    if (auto here = read(0, 0); here.sense)
        return here;
    const bool as_time = cdb[1] & 2;
    // Old drivers put the format into the last byte.
    const auto format = cdb[2] & 0x0f ? cdb[2] & 0x0f : cdb[9] >> 6;
    const auto first = cdb[6];
    constexpr std::uint8_t data_track = 0x14;
    ByteWriter entries;
    auto entry = [&](std::uint8_t track, std::uint64_t block) {
        entries.be<std::uint8_t>(0);
        entries.be(data_track);
        entries.be(track);
        entries.be<std::uint8_t>(0);
        put_address(entries, block, as_time);
    };
    if (format == 0) {
        if (first > 1 && first != lead_out)
            return check(invalid_field);
        if (first <= 1)
            entry(1, 0);
        entry(lead_out, blocks_);
    } else if (format == 1) {
        entry(1, 0);
    } else {
        return check(invalid_field);
    }
    ByteWriter out;
    out.be(static_cast<std::uint16_t>(2 + entries.size()));
    out.be<std::uint8_t>(1); // first and last track, or session
    out.be<std::uint8_t>(1);
    out.bytes(entries.buffer());
    return give(out.take(), be<std::uint16_t>(cdb, 7));
}

bool CdDrive::is_current(bool dvd) const {
    return ready() && (blocks_ > max_cd_blocks) == dvd;
}

// MMC-5, 6.6 and 5.3.
CdDrive::Outcome CdDrive::get_configuration(Bytes cdb) {
    const auto wanted = cdb[1] & 3;
    const auto first = be<std::uint16_t>(cdb, 2);
    if (wanted == 3)
        return check(invalid_field);
    ByteWriter features;
    auto feature = [&](std::uint16_t code, bool current, bool persistent, ByteWriter body) {
        if (wanted == 2 ? code == first : code >= first && (wanted == 0 || current))
            put_feature(features, code, current, persistent, body.buffer());
    };
    ByteWriter profiles;
    for (auto profile : {profile_dvd, profile_cd}) {
        profiles.be(profile);
        profiles.be(static_cast<std::uint8_t>(is_current(profile == profile_dvd)));
        profiles.zeros(1);
    }
    ByteWriter core, removable, readable, cd_read, dvd_read;
    core.be<std::uint32_t>(1); // SCSI
    core.zeros(4);
    removable.be<std::uint8_t>(0x29); // a tray that locks and ejects
    removable.zeros(3);
    readable.be(block_bytes);
    readable.be<std::uint16_t>(1);
    readable.zeros(2);
    cd_read.zeros(4);
    feature(0x0000, true, true, std::move(profiles));
    feature(0x0001, true, true, std::move(core));
    feature(0x0003, true, true, std::move(removable));
    feature(0x0010, ready(), false, std::move(readable));
    feature(0x001e, is_current(false), false, std::move(cd_read));
    feature(0x001f, is_current(true), false, std::move(dvd_read));
    ByteWriter out;
    out.be(static_cast<std::uint32_t>(4 + features.size()));
    out.zeros(2);
    out.be<std::uint16_t>(is_current(true)    ? profile_dvd
                          : is_current(false) ? profile_cd
                                              : std::uint16_t{0});
    out.bytes(features.buffer());
    return give(out.take(), be<std::uint16_t>(cdb, 7));
}

// MMC-5, 6.7: polled, and of the class "media" only.
CdDrive::Outcome CdDrive::get_event_status(Bytes cdb) {
    constexpr std::uint8_t media_class = 4, media_bit = 1 << media_class, no_event = 0x80;
    if (!(cdb[1] & 1))
        return check(invalid_field);
    ByteWriter out;
    if (!(cdb[4] & media_bit)) {
        out.be<std::uint16_t>(2);
        out.be(no_event);
        out.be(media_bit);
        return give(out.take(), be<std::uint16_t>(cdb, 7));
    }
    out.be<std::uint16_t>(6);
    out.be(media_class);
    out.be(media_bit);
    out.be(static_cast<std::uint8_t>(std::exchange(media_event_, MediaEvent::none)));
    out.be(static_cast<std::uint8_t>((tray_open_ ? 1 : 0) | (ready() ? 2 : 0)));
    out.zeros(2);
    return give(out.take(), be<std::uint16_t>(cdb, 7));
}

// MMC-5, 6.28: a finished disc of one session.
CdDrive::Outcome CdDrive::read_disc_information(Bytes cdb) {
    if (cdb[1] & 7)
        return check(invalid_field);
    if (auto here = read(0, 0); here.sense)
        return here;
    std::vector<std::uint8_t> raw(34);
    store_be<std::uint16_t>(raw, 32);
    raw[2] = 0x0e; // disc finalized, its last session complete
    raw[3] = 1;    // first track
    raw[4] = 1;    // sessions
    raw[5] = 1;    // first and last track of the last one
    raw[6] = 1;
    raw[7] = 0x20; // unrestricted use
    return give(std::move(raw), be<std::uint16_t>(cdb, 7));
}

// MMC-5, 6.12.
CdDrive::Outcome CdDrive::mechanism_status(Bytes cdb) {
    std::vector<std::uint8_t> raw(8);
    raw[1] = tray_open_ ? 0x10 : 0;
    return give(std::move(raw), be<std::uint16_t>(cdb, 8));
}

// SPC-3, 6.21: this one.
CdDrive::Outcome CdDrive::report_luns(Bytes cdb) {
    std::vector<std::uint8_t> raw(16);
    store_be<std::uint32_t>(raw, 8);
    return give(std::move(raw), be<std::uint32_t>(cdb, 6));
}

// MMC-5, 6.24: only what a data track has, its user data.
CdDrive::Outcome CdDrive::read_cd(Bytes cdb) {
    const auto content = cdb[9] & 0xf8;
    if ((content != 0 && content != 0x10) || (cdb[10] & 7) != 0)
        return check(invalid_field);
    auto outcome = read(be<std::uint32_t>(cdb, 2), be24(cdb, 6));
    if (content == 0)
        outcome.block_count = 0;
    return outcome;
}

} // namespace vmhost::machine
