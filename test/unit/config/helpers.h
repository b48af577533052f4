// Shared by the tests of config/.
#pragma once

#include <catch2/catch.hpp>

#include "config/config.h"

namespace vmhost::config {

// The model; the complaints fail the test.
inline Model good(const std::string& text) {
    auto model = parse(text, "t.toml");
    if (!model) {
        for (const Error& complaint : model.error())
            UNSCOPED_INFO(complaint.message());
        FAIL("refused:\n" << text);
    }
    return *std::move(model);
}

// All complaints, a line each; "" when the text was accepted.
inline std::string bad(const std::string& text) {
    auto model = parse(text, "t.toml");
    std::string out;
    if (!model) {
        CHECK_FALSE(model.error().empty());
        for (const Error& complaint : model.error())
            out += (out.empty() ? "" : "\n") + complaint.message();
    }
    return out;
}

} // namespace vmhost::config
