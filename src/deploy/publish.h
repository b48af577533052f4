// The program of [install] sshfp_command: what brings SSHFP records into the DNS.
//
// It is told on its command line what to do, "update" or "delete", and of which name; the records
// of an update come on its standard input, one a line, and are all that the name is to have. It
// ends in time, or is ended.
#pragma once

#include <chrono>
#include <string>

#include "base/base.h"

namespace vmhost::deploy {

enum class Publish : std::uint8_t { update, remove };

// By argument vector, in an environment of two variables, with its output thrown away. denied:
// others than root and us could have written the program; invalid: the name is none of the DNS; io:
// it was late, or ended otherwise than with status 0: its first line on standard error is in the
// text.
Result<void> publish_records(const std::string& program, Publish what, const std::string& name,
                             std::string_view records,
                             std::chrono::milliseconds time_limit = std::chrono::seconds(30));

} // namespace vmhost::deploy
