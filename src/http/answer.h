// The files of installations: which file belongs to whom. Pure: paths and addresses in, whose file
// it is out.
//
// Answers to an installer hold passwords. A VM may have the files that belong to the address it
// asks from, those with secrets once, and nothing else exists for it: a file of another VM, asked
// for by its Ethernet address or by its name, is not found, like one that is not there, and like
// its own when that was given out before. What stands in them is not known here: who may have one
// claims it first (answer_desk.h). Their names are theirs alone: no directory has files of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"

namespace vmhost::http {

// What comes of a request for a file of an installation. Each is counted.
enum class AnswerOutcome : std::uint8_t {
    served,
    unknown,    // nobody of ours has the address, or the name, or its installation no such file
    other_vm,   // it is another VM's
    other_mode, // for an upgrade where there is to be an installation, or the other way round
    sealed,     // it was given out before, or is not to be given out at all
    busy,       // another request for it is not decided yet
    late,       // it was not decided in time
    failed,     // it cannot be made, or the seal not be written down
};
inline constexpr std::size_t answer_outcomes = 8;
// "other-vm": as in metrics and logs.
std::string_view name_of(AnswerOutcome outcome);

struct AnswerFile {
    std::string name;  // "install.conf": the last component of a path, or the end of that
    bool once = false; // it is not there any more when the installation is sealed
};

// One interface of one VM that is being installed or upgraded.
struct Answer {
    std::string vm;
    Ipv4 address;
    Mac lladdr;
    std::string host_name; // short or with its domain
    std::vector<AnswerFile> files;
    bool sealed = false;
};

// What the installer says about itself: "?path=7.8/amd64".
struct SetPath {
    std::string version; // "7.8" or "snapshots"
    std::string arch;
    bool operator==(const SetPath&) const = default;
};

struct Lookup {
    bool is_answer_name = false; // the path has the form of a file of an installation
    // That may be claimed; valid until the next configure().
    const Answer* answer = nullptr;
    const AnswerFile* file = nullptr;
    AnswerOutcome refusal = AnswerOutcome::unknown; // when there is none
    std::optional<SetPath> set_path;
};

class Answers {
public:
    void configure(std::vector<Answer> answers);
    // path: decoded and canonical; query: raw.
    Lookup find(std::string_view path, std::string_view query, IpAddress peer) const;
    bool is_guest(IpAddress peer) const;
    // On every interface of the VM.
    void seal(std::string_view vm);

private:
    struct Name {
        std::string_view file;
        std::string_view stem; // before "-install.conf"; empty for the plain name
    };
    std::optional<Name> parse_name(std::string_view path) const;
    AnswerOutcome refusal(const Name& name, const IpAddress& peer) const;
    std::vector<Answer> answers_;
    std::vector<std::string> names_; // of the files of them all
};

// Nothing when there is none or when it is not of the form VER/ARCH.
std::optional<SetPath> parse_set_path(std::string_view query);

// 200 with the file, or why there is none: 404, or 503 for what another attempt may bring. Never to
// be stored.
Response answer_response(AnswerOutcome outcome, const std::string& vm, std::string_view name,
                         std::string content);

} // namespace vmhost::http
