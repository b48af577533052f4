// A directory of the test's own with files to serve.
#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "base/base.h"

namespace vmhost::test {

struct Folder {
    std::string path = std::filesystem::temp_directory_path() / "vmhost-tftp-XXXXXX";
    Folder() {
        if (!::mkdtemp(path.data()))
            throw std::runtime_error("mkdtemp");
    }
    ~Folder() { std::filesystem::remove_all(path); }
    void file(const std::string& name, const std::string& content) const {
        auto whole = std::filesystem::path(path) / name;
        std::filesystem::create_directories(whole.parent_path());
        std::ofstream(whole, std::ios::binary) << content;
    }
    Fd open() const { return Fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }
};

// So many bytes, no two blocks of which are alike.
inline std::string bytes(std::size_t count) {
    std::string out(count, '\0');
    std::uint32_t state = 1;
    for (auto& c : out)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return out;
}

} // namespace vmhost::test
