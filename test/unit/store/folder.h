// A directory of the test's own that goes away with it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace vmhost::store {

class Folder {
public:
    Folder() {
        path = (std::filesystem::temp_directory_path() / "vmhost-XXXXXX").string();
        if (::mkdtemp(path.data()) == nullptr)
            path.clear();
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::string operator/(const std::string& name) const { return path + "/" + name; }

    std::string path;
};

} // namespace vmhost::store
