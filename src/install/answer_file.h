// An answer file as the installer sees it: lines, and the play of question and
// answer (install/ only).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "install/questions.h"

namespace vmhost::install {

struct Line {
    std::string key;        // as written
    std::string normal_key; // as compared here
    std::string value;
    std::uint32_t number = 0;           // in the file, from 1
    const Question* taken_by = nullptr; // set by the play
};

// The lines that the installer would look at; comments and broken lines are left out.
std::vector<Line> parse_lines(std::string_view text);

Line make_line(std::string_view key, std::string_view value, std::uint32_t number = 0);

// Asks every question once, in order, as far as it is asked with these answers.
// For one without a line, unanswered is called.
void play(std::vector<Line>& lines,
          const std::function<void(const Question& question)>& unanswered);

} // namespace vmhost::install
