// Just enough of a network for a guest that installs itself: Ethernet over virtio-net, ARP,
// IPv4, DHCP (RFC 2131) and one TCP connection at a time (RFC 9293) that sends a request
// and takes what comes, in order. No options of TCP, no fragments, no window but a fixed one.
#pragma once

#include "virtio.h"

struct lease {
    uint8_t address[4], mask[4], router[4], dns[4], server[4], next_server[4];
    char boot_file[129], hostname[64];
    bool has_router, has_dns;
};

extern uint8_t my_mac[6];

void ip_open(void); // the first virtio-net device
// DISCOVER, OFFER, REQUEST, ACK; the address is ours afterwards. Tries for some seconds.
bool dhcp(struct lease* lease);
// Sends `request` to port 80 and gathers the answer until the server closes. The number of
// bytes, or -1 when there was no connection, no complete answer or no room.
int http_exchange(const uint8_t server[4], const char* request, uint8_t* answer, uint32_t room);
