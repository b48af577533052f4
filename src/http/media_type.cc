#include "http/media_type.h"

#include <algorithm>
#include <string>
#include <utility>

namespace vmhost::http {

namespace {

constexpr std::string_view plain = "text/plain; charset=utf-8";

// By the end of the name, in small letters.
constexpr std::pair<std::string_view, std::string_view> types[] = {
    {".html", "text/html; charset=utf-8"},
    {".htm", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".json", "application/json"},
    {".xml", "application/xml"},
    {".txt", plain},
    {".conf", plain},
    {".sig", plain},
    {".md5", plain},
    {".sha256", plain},
    {".ipxe", plain},
    {".cfg", plain},
    {".yaml", "application/yaml"},
    {".yml", "application/yaml"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".gif", "image/gif"},
    {".jpg", "image/jpeg"},
    {".jpeg", "image/jpeg"},
    {".ico", "image/x-icon"},
    {".pdf", "application/pdf"},
    {".wasm", "application/wasm"},
    {".tgz", "application/gzip"},
    {".gz", "application/gzip"},
    {".xz", "application/x-xz"},
    {".zst", "application/zstd"},
    {".iso", "application/x-iso9660-image"},
    {".efi", "application/efi"},
    {".deb", "application/vnd.debian.binary-package"},
};

// What has no ending, in directories of sets.
constexpr std::string_view plain_names[] = {"SHA256", "SHA512",  "BUILDINFO",
                                            "README", "Release", "InRelease"};

} // namespace

std::string_view media_type(std::string_view file_name) {
    file_name = file_name.substr(file_name.rfind('/') + 1);
    if (std::ranges::find(plain_names, file_name) != std::end(plain_names) ||
        file_name.starts_with("INSTALL."))
        return plain;
    std::string name(file_name);
    std::ranges::transform(name, name.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; });
    for (const auto& [ending, type] : types)
        if (name.size() > ending.size() && name.ends_with(ending))
            return type;
    return "application/octet-stream";
}

} // namespace vmhost::http
