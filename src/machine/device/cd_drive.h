// A CD-ROM and DVD-ROM drive as SCSI sees it: commands in, data or sense out (SPC-3, MMC-5).
// The bytes of the medium are not here: a read command says which blocks it wants.
//
// Answers are what SeaBIOS, boot loaders, Linux's sr and OpenBSD's cd(4) ask for; names are vmd's,
// which guests show. A command's last sense stays for REQUEST SENSE, because SeaBIOS looks at
// it only there.
//
// The tray: the guest opens and closes it (START STOP UNIT) and locks it; the host changes what
// lies in it. The host's hand on a locked tray is asked for as an event (EjectRequest), which
// Linux's udev follows; a forced change breaks the lock.
//
// Threads: under the device lock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/base.h"

namespace vmhost::machine {

class CdDrive {
public:
    static constexpr std::uint32_t block_bytes = 2048;

    struct Sense {
        std::uint8_t key = 0, code = 0, qualifier = 0;
        bool operator==(const Sense&) const = default;
    };
    // What a command comes to. With sense it failed (CHECK CONDITION), else it gives data, else
    // the blocks [first_block, first_block + block_count), which exist.
    struct Outcome {
        std::optional<Sense> sense;
        std::vector<std::uint8_t> data; // already cut to the allocation length of the command
        std::uint64_t first_block = 0;
        std::uint32_t block_count = 0;
    };

    // The serial is the guest's to see.
    explicit CdDrive(std::string serial) : serial_(std::move(serial)) {}

    // cdb is the guest's, of any content; shorter ones read as if zeros followed.
    Outcome execute(Bytes cdb);
    // What the caller found out about a command, such as a medium error: for REQUEST SENSE.
    void note(const Sense& sense) { last_sense_ = sense; }
    // Power-on or a reset of the bus.
    void reset();

    // The host's side: a medium of this many blocks takes the place of what lay in the tray, and
    // the tray is closed; 0 takes the medium out, and the tray is open. A lock ends with it.
    void change_medium(std::uint64_t blocks);
    // The button on the drive, when the tray is locked.
    void ask_to_eject() { media_event_ = MediaEvent::eject_request; }
    bool locked() const { return locked_; }
    bool tray_open() const { return tray_open_; }
    void open_tray() { tray_open_ = true; }
    // A medium that can be read.
    bool ready() const { return blocks_ != 0 && !tray_open_; }

    static constexpr std::size_t sense_bytes = 18;
    // Fixed format (SPC-3, 4.5.3).
    static std::vector<std::uint8_t> format(const Sense& sense);

private:
    enum class MediaEvent : std::uint8_t { none, eject_request, new_medium, removal };

    Outcome check(const Sense& sense);
    Outcome give(std::vector<std::uint8_t> data, std::uint64_t allocation_bytes);
    Outcome read(std::uint64_t first_block, std::uint64_t block_count);
    std::optional<Sense> take_attention();
    bool is_current(bool dvd) const;

    Outcome request_sense(Bytes cdb);
    Outcome inquiry(Bytes cdb);
    Outcome mode_sense(Bytes cdb);
    Outcome start_stop(Bytes cdb);
    Outcome read_capacity(Bytes cdb);
    Outcome read_toc(Bytes cdb);
    Outcome get_configuration(Bytes cdb);
    Outcome get_event_status(Bytes cdb);
    Outcome read_disc_information(Bytes cdb);
    Outcome mechanism_status(Bytes cdb);
    Outcome report_luns(Bytes cdb);
    Outcome read_cd(Bytes cdb);

    std::string serial_;
    std::uint64_t blocks_ = 0; // of the medium in the tray, 0 = none
    bool tray_open_ = false;
    bool locked_ = false;
    bool power_on_attention_ = true, medium_attention_ = false; // to be told once each
    MediaEvent media_event_ = MediaEvent::none;
    Sense last_sense_;
};

} // namespace vmhost::machine
