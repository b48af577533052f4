// The questions of the installer of OpenBSD 7.8, mode install, in the order they
// are asked on a virtual machine with a serial console (install/ only).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vmhost::install {

enum class Asked : std::uint8_t {
    always,
    if_answered, // in other circumstances than ours: a line for it is no mistake
    with_user,   // when "Setup a user" named one
    over_http,   // when the sets come over HTTP
};

struct Question {
    std::string_view text;
    std::string_view good_key; // stable over releases, and in no other question
    Asked asked = Asked::always;
    bool has_default = true;
    bool repeats = false; // asked again, so that further lines for it are no mistake
};

std::span<const Question> questions();

// The key with the placeholders of the table for what varies: "IPv4 address for
// vio1" becomes "… for vio0", "Password for user alice" "… for user NAME".
std::string normal_key(std::string_view key);

// Whether the installer takes a line with this key for the question.
bool key_matches(std::string_view key, std::string_view question);

} // namespace vmhost::install
