// The table. Where a question names an interface, a user, a file or an issue, a
// placeholder stands for it: vio0, NAME, FILE, ISSUE. normal_key() puts the same
// placeholders into keys.

#include "install/questions.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/base.h"

namespace vmhost::install {

namespace {

using enum Asked;

constexpr Question table[] = {
    {"Terminal type?", "Terminal type"},
    {"Choose your keyboard layout ('?' or 'L' for list)", "Choose your keyboard layout",
     if_answered},
    {"System hostname? (short form, e.g. 'foo')", "System hostname"},
    {"Network interface to configure? (name, lladdr, '?', or 'done')",
     "Network interface to configure", always, true, true},
    {"Which network interface do you wish to configure? (or 'done')",
     "Which network interface do you wish to configure", if_answered, true, true}, // until 7.2
    {"Symbolic (host) name for vio1?", "Symbolic (host) name", if_answered, true, true},
    {"IPv4 address for vio0? (or 'autoconf' or 'none')", "IPv4 address for vio0", always, true,
     true},
    {"Netmask for vio0?", "Netmask for vio0", if_answered, true, true},
    {"IPv6 address for vio0? (or 'autoconf' or 'none')", "IPv6 address for vio0", always, true,
     true},
    {"IPv6 prefix length for vio0?", "IPv6 prefix length", if_answered, true, true},
    {"Default IPv4 route? (IPv4 address or 'none')", "Default IPv4 route", if_answered},
    {"IPv6 default router? (IPv6 address or 'none')", "IPv6 default router", if_answered},
    {"DNS domain name? (e.g. 'example.com')", "DNS domain name", if_answered},
    {"DNS nameservers? (IP address list or 'none')", "DNS nameservers", if_answered},
    {"Password for root account?", "Password for root", always, false},
    {"Public ssh key for root account?", "Public ssh key for root"},
    {"Start sshd(8) by default?", "Start sshd(8) by default"},
    {"Do you expect to run the X Window System?", "Do you expect to run the X Window System",
     if_answered},
    {"Do you want the X Window System to be started by xenodm(1)?",
     "Do you want the X Window System to be started", if_answered},
    {"Change the default console to com0?", "Change the default console to com0"},
    {"Which speed should com0 use? (or 'done')", "Which speed should com0 use"},
    {"Setup a user? (enter a lower-case loginname, or 'no')", "Setup a user"},
    {"Full name for user NAME?", "Full name for user", with_user},
    {"Password for user NAME?", "Password for user", with_user, false},
    {"Public ssh key for user NAME", "Public ssh key for user", with_user},
    {"Allow root ssh login? (yes, no, prohibit-password)", "Allow root ssh login"},
    {"What timezone are you in? ('?' for list)", "What timezone are you in", always, false},
    {"What sub-timezone of 'X' are you in? ('?' for list)", "What sub-timezone of", if_answered},
    {"Which disk is the root disk? ('?' for details)", "Which disk is the root disk"},
    {"Encrypt the root disk with a (p)assphrase or (k)eydisk?", "Encrypt the root disk"},
    {"New passphrase?", "New passphrase", if_answered},
    {"Which disk contains the key disk?", "Which disk contains the key disk", if_answered},
    {"Use (W)hole disk MBR, whole disk (G)PT or (E)dit?", "Use (W)hole disk"},
    {"An EFI/GPT disk may not boot. Proceed?", "An EFI/GPT disk may not boot. Proceed",
     if_answered},
    {"URL to autopartitioning template for disklabel?", "URL to autopartitioning template"},
    {"Use (A)uto layout, (E)dit auto layout, or create (C)ustom layout?",
     "Use (A)uto layout, (E)dit auto layout, or create (C)ustom layout"},
    {"Which disk do you wish to initialize? (or 'done')", "Which disk do you wish to initialize",
     if_answered, true, true},
    {"Location of sets? (cd0 disk http nfs or 'done')", "Location of sets", always, true, true},
    {"HTTP proxy URL? (e.g. 'http://proxy:8080', or 'none')", "HTTP proxy URL", over_http},
    {"HTTP Server? (hostname, list#, 'done' or '?')", "HTTP Server", over_http, false},
    {"Unable to connect using https. Use http instead?",
     "Unable to connect using https. Use http instead", if_answered}, // 6.x
    {"Server directory?", "Server directory", over_http},
    {"Is the disk partition already mounted?", "Is the disk partition already mounted",
     if_answered},
    {"Which disk contains the install media?", "Which disk contains the install media",
     if_answered},
    {"Which sd1 partition has the install sets?", "Which sd1 partition has the install sets",
     if_answered},
    {"Server IP address or hostname?", "Server IP address or hostname", if_answered},
    {"Filesystem on server to mount?", "Filesystem on server to mount", if_answered},
    {"Use TCP transport? (requires TCP-capable NFS server)", "Use TCP transport", if_answered},
    {"Pathname to the sets? (or 'done')", "Pathname to the sets", if_answered},
    {"INSTALL.amd64 not found. Use sets found here anyway?", "Use sets found here anyway",
     if_answered},
    {"Set name(s)? (or 'abort' or 'done')", "Set name(s)", always, true, true},
    {"Fetching of FILE failed. Continue anyway?", "failed. Continue anyway", if_answered, true,
     true},
    {"Checksum test for FILE failed. Continue anyway?", "Checksum test for", if_answered, true,
     true},
    {"ISSUE. Continue without verification?", "Continue without verification", if_answered, true,
     true},
    {"Installation of FILE failed. Continue anyway?", "Installation of", if_answered, true, true},
    {"Are you *SURE* your install is complete without 'bsd'?",
     "Are you *SURE* your install is complete without", if_answered},
    {"Time appears wrong.  Set to 'DATE'?", "Time appears wrong.", if_answered},
};

bool same(char a, char b) {
    return lower_case(a) == lower_case(b);
}

bool starts_with(std::string_view text, std::string_view front) {
    return text.size() >= front.size() &&
           std::equal(front.begin(), front.end(), text.begin(), same);
}

bool ends_with(std::string_view text, std::string_view back) {
    return text.size() >= back.size() &&
           std::equal(back.rbegin(), back.rend(), text.rbegin(), same);
}

} // namespace

std::span<const Question> questions() {
    return table;
}

std::string normal_key(std::string_view key) {
    for (std::string_view front :
         {"IPv4 address for ", "IPv6 address for ", "Netmask for ", "IPv6 prefix length for "})
        if (starts_with(key, front))
            return std::string(front) + "vio0";
    for (std::string_view front :
         {"Full name for user ", "Password for user ", "Public ssh key for user "})
        if (starts_with(key, front))
            return std::string(front) + "NAME";
    for (std::string_view front : {"Fetching of ", "Checksum test for ", "Installation of "})
        if (starts_with(key, front) && ends_with(key, " failed. Continue anyway"))
            return std::string(front) + "FILE failed. Continue anyway";
    if (ends_with(key, ". Continue without verification"))
        return "ISSUE. Continue without verification";
    return std::string(key);
}

bool key_matches(std::string_view key, std::string_view question) {
    if (key.empty())
        return false;
    auto from = question.begin();
    while (true) {
        auto found = std::search(from, question.end(), key.begin(), key.end(), same);
        if (found == question.end())
            return false;
        auto after = found + static_cast<std::ptrdiff_t>(key.size());
        const bool begins = found == question.begin() || *(found - 1) == ' ';
        const bool ends = after == question.end() || *after == ' ' || *after == '?';
        if (begins && ends)
            return true;
        from = found + 1;
    }
}

} // namespace vmhost::install
