// Texts with variables: what a guest is told, with what its configuration says put in.
//
//   d-i netcfg/get_hostname string ${hostname}
//   ${?user}d-i passwd/username string ${user}      only when there is one
//   ${!user}d-i passwd/make-user boolean false      only when there is none
//   kernel http://192.0.2.1/vmlinuz ip=$${net0/ip}  two dollars: left to the guest, as ${net0/ip}
//
// Values come from whoever ordered the VM, texts from the operator. So a value never adds a line,
// and never ends what it stands in: where quotes allow more, more is taken; what a place cannot
// hold is refused with the line of the text.
//
// Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/base.h"

namespace vmhost::install {

enum class Syntax : std::uint8_t {
    lines, // a value is the rest of a line, or a part of it: OpenBSD's answers
    yaml,
    words, // of a shell, or of something like one: preseed.cfg, ks.cfg, boot.ipxe
};

using Values = std::map<std::string, std::string, std::less<>>;

// name: of the text, in errors. At most limits::max_answer_file_bytes come out.
Result<std::string> fill(std::string_view text, const std::string& name, const Values& values,
                         Syntax syntax);

} // namespace vmhost::install
