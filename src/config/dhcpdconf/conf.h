// A dhcpd.conf(5) of OpenBSD as it is written: statements and blocks, before anybody asks what they
// mean.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace vmhost::config::dhcpdconf {

struct Word {
    std::string text;
    bool quoted = false;
};

// "option routers 10.0.0.1, 10.0.0.2;" or "host a { … }". A comma is a word of its own.
struct Statement {
    Place place;
    std::vector<Word> words;
    std::vector<Statement> block;
    bool has_block = false;

    std::string word(std::size_t index) const; // lower case, empty when there is none
};

// The whole file, or what is wrong with it.
Result<std::vector<Statement>> parse(std::string_view text, const std::string& file);

struct Written {
    std::string toml;
    std::vector<Error> warnings;
};
Written write(const std::vector<Statement>& statements);

} // namespace vmhost::config::dhcpdconf
