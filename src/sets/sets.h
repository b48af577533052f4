// The door of sets/: OpenBSD's installation sets on this host, fetched from a mirror, and only
// what its developers have signed (signify(1), as OpenBSD's own installer has it).
//
// A directory holds what pub/OpenBSD of a mirror holds, VERSION/ARCH/FILE, and http/ serves it. A
// fetch gathers its files in a directory beside, with a dot in front, which http/ does not serve;
// when all of them are there, and have the sums of the signed list, it takes the place of
// VERSION/ARCH in one step. So whatever is served was verified, and a fetch that was killed goes
// on where it was.
#pragma once

#include "sets/fetch.h"
#include "sets/shelf.h"
#include "sets/signify.h"
