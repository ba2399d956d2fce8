//! What comes of computing fs-verity digests, and of a test kernel without fs-verity.

use super::{Difference, audit, before, list, ops, tree};

/// The difference.
pub(super) const VERITY: Difference = Difference {
    name: "fs-verity digests are computed where the backing keeps none",
    reason: "Under `digest_type=verity` the kernel neither measures nor appraises a file without fs-verity \
             (`no-verity-digest`). fs-verity does not travel with an image and few backings have it on, so \
             imafs computes the digest: in blocks of 4,096 bytes, without salt, by the algorithm that the \
             label's signature names, else by the default one where fs-verity has it, else by SHA-256. \
             `--verity backing` leaves such files without a digest, as the kernel does, and denies them. \
             fs-verity cannot be switched on through the mount. The kernel that these tests run on has none \
             at all, so the recordings' files are plain ones here: where they had fs-verity with SHA-256 \
             everything agrees, and they can be written.",
    places: &[
        before("verity-measure", 1, 9, &["EOPNOTSUPP +0 +0"]),
        ops("verity-measure", 4, 4, &["ok 6 +1 +0"]),
        audit("verity-measure", 4, 5, &[]),
        ops("verity-measure", 12, 12, &["ok 6 +1 +0"]),
        audit("verity-measure", 12, 12, &[]),
        ops("verity-measure", 14, 14, &["ok 6 +1 +0"]),
        audit("verity-measure", 14, 14, &[]),
        ops("verity-measure", 16, 18, &["exit 7 +1 +0", "ok +0 +0", "ok 1 +0 +0"]),
        audit("verity-measure", 16, 16, &[]),
        ops("verity-measure", 21, 24, &["ok 5 +1 +0", "ENOTTY +0 +0", "ok 5 +0 +0", "ENOTTY +0 +0"]),
        audit("verity-measure", 21, 22, &[]),
        list(
            "verity-measure",
            4,
            4,
            &[
                "ima-ngv2 verity:sha256:1025126569ef8b3bb08f4a9a25f2bdf43c0da66e2cc7b8f6f2abc95f842836b4 /t/plain",
                "ima-ngv2 verity:sha256:1025126569ef8b3bb08f4a9a25f2bdf43c0da66e2cc7b8f6f2abc95f842836b4 /t/sha512",
            ],
        ),
        list(
            "verity-measure",
            10,
            9,
            &[
                "ima-sigv2 verity:sha256:1025126569ef8b3bb08f4a9a25f2bdf43c0da66e2cc7b8f6f2abc95f842836b4 /t/p1002",
            ],
        ),
        list(
            "verity-measure",
            11,
            10,
            &["ima-ng sha256:1025126569ef8b3bb08f4a9a25f2bdf43c0da66e2cc7b8f6f2abc95f842836b4 /t/p1003"],
        ),
        list(
            "verity-measure",
            12,
            11,
            &[
                "ima-ngv2 verity:sha256:9bb8554b450bcf3978fdae32f366f481be1cf0d6adc4d8f91a92cd8873b755e9 /t/plainprog",
            ],
        ),
        before("verity-appraise", 1, 26, &["EOPNOTSUPP +0 +0"]),
        ops("verity-appraise", 11, 11, &["ok 6 +1 +0"]),
        audit("verity-appraise", 11, 11, &[]),
        ops("verity-appraise", 20, 20, &["ok 6 +1 +0"]),
        audit("verity-appraise", 20, 20, &[]),
        ops("verity-appraise", 24, 24, &["ok 6 +1 +0"]),
        audit("verity-appraise", 24, 24, &[]),
        ops("verity-appraise", 25, 25, &["EACCES +1 +0"]),
        audit("verity-appraise", 25, 25, &["cause=verity-signature-required comm=\"op\" name=\"/t/n-hash\""]),
        ops("verity-appraise", 26, 26, &["EACCES +1 +0"]),
        audit("verity-appraise", 26, 26, &["cause=verity-signature-required comm=\"op\" name=\"/t/n-none\""]),
        ops("verity-appraise", 31, 31, &["ok +0 +0"]),
        audit("verity-appraise", 31, 31, &[]),
        ops("verity-appraise", 32, 32, &["ok +0 +0"]),
        ops("verity-appraise", 39, 39, &["ok +0 +0"]),
        audit("verity-appraise", 39, 39, &["cause=verity-signature-required comm=\"op\" name=\"/t/p-none\""]),
        ops("verity-appraise", 40, 40, &["ok +0 +0"]),
        audit("verity-appraise", 41, 41, &["cause=verity-signature-required comm=\"op\" name=\"/t/p-none\""]),
        ops("verity-appraise", 53, 53, &["EACCES +0 +0"]),
        ops("verity-appraise", 57, 57, &["ok 6 +1 +0"]),
        audit("verity-appraise", 57, 57, &[]),
        ops("verity-appraise", 62, 62, &["ok +0 +0"]),
        audit("verity-appraise", 62, 62, &[]),
        ops(
            "verity-appraise",
            63,
            65,
            &[
                "ok 1 +0 +0",
                "ok +0 +0",
                "ok 0x04042d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 +0 +0",
            ],
        ),
        audit("verity-appraise", 66, 66, &["cause=verity-signature-required comm=\"op\" name=\"/t/new\""]),
        ops("verity-appraise", 67, 67, &["ok +0 +0"]),
        audit("verity-appraise", 67, 67, &[]),
        ops("verity-appraise", 68, 68, &["ok +0 +0"]),
        ops("verity-appraise", 73, 73, &["ok 0 +0 +0"]),
        audit("verity-appraise", 73, 73, &[]),
        ops("verity-appraise", 74, 74, &["ok +0 +0"]),
        audit("verity-appraise", 74, 74, &[]),
        ops("verity-appraise", 76, 76, &["ok +0 +0"]),
        audit("verity-appraise", 76, 76, &["cause=invalid-verity-signature comm=\"op\" name=\"/t/new3\""]),
        ops("verity-appraise", 77, 79, &["ok 5 +0 +0", "ok +0 +0", "ok +0 +0"]),
        audit("verity-appraise", 80, 80, &["cause=invalid-verity-signature comm=\"op\" name=\"/t/new3\""]),
        list(
            "verity-appraise",
            12,
            12,
            &[
                "ima-sig sha512:21fe275216d7dafb8afa8f8257ae96215b74c1dad980238e6fdbbd0c41a44adb8d3e1f95c7e3dad3e25037369d1c87dd107ceb7eb9c9c868eb2b18b57ddd4125 /t/v-algo",
            ],
        ),
        list(
            "verity-appraise",
            21,
            21,
            &["ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/v-mixed"],
        ),
        list(
            "verity-appraise",
            23,
            22,
            &[
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-good",
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-hash",
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-none",
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-none",
            ],
        ),
        tree(
            "verity-appraise",
            12,
            12,
            &["size=1 security.ima=0x04042d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"],
        ),
        tree(
            "verity-appraise",
            14,
            14,
            &["size=5 security.ima=0x060304a73cc3d20100a72d701854c07bf9d7880e194700468b8a09884ef1effe4670"],
        ),
        before("verity-appraise-fix", 1, 26, &["EOPNOTSUPP +0 +0"]),
        audit("verity-appraise-fix", 31, 31, &[]),
        ops(
            "verity-appraise-fix",
            32,
            32,
            &[
                "ok 0x060306a73cc3d201008c13d29bc3c5c2f0a08f772004f2002111da5e0087e439b3e8a8dc66414b74355a0dd014c9bbdd4f7b0b9b3155219df8dca60dc9aac9c2bc01d48ae188f69408d92aa695727c1f8c2da8854aab48e206a9161468c1fa3a0fe2d6b15d9e5448f7121f574ce763e9f7e6236023d6c8d0a8ce94b2a2ddef13f50aa8a82830fee667736d8dae3f8b8f59531b70a9e25755fc97c8c55641aece22c77c2c13895c824ae59eb0a373dd12fa3b855f97c07ef850cb7478534c0b885c36c471b78b4855ffa31eb0708aed49230549fd1fade59a738d2d80502db6fc56aebdb2608bb14bb29a67bd64bdeb38d32960906dbf5abe71d4f1ea20486b9119d523e7e3c34ec361 +0 +0",
            ],
        ),
        audit("verity-appraise-fix", 33, 33, &[]),
        audit("verity-appraise-fix", 58, 58, &[]),
        ops(
            "verity-appraise-fix",
            59,
            59,
            &[
                "ok 0x060304a73cc3d20100a72d701854c07bf9d7880e194700468b8a09884ef1effe467026a02efd7a474688036d1d9cc9fa443354c80ae0257115c5d112f6ab92141c8a2e986ad9d70b6e7ffaea45c21694a5b75e1e6ede256198b32ef5b3f3144fe6555632a3234c93e59bea45265f47712e5dd0ce1c45b468aa5c556c977d2a4a6f929bbb583fe989323063d6693e80927ba5dff9ebd7ba6cda08e228486655d15cfb39d1c05630d76e1a50ffa0ebbda45a9b7efd9b7c0d20382517945afa4245cf091954994325c2a4c70b478ace46953a0c56309cf34fdf677972a38629e4c25f7db0c2a7ae537df5639566fc0822f4924f436a624bd7a043330c67898c21954a594ba3c340ccdf65 +0 +0",
            ],
        ),
        audit("verity-appraise-fix", 60, 60, &[]),
        ops("verity-appraise-fix", 66, 66, &["ok 6 +1 +0"]),
        audit("verity-appraise-fix", 66, 66, &[]),
        ops("verity-appraise-fix", 68, 68, &["ok 6 +1 +0"]),
        audit(
            "verity-appraise-fix",
            68,
            68,
            &["cause=verity-signature-required comm=\"op\" name=\"/t/n-hash\""],
        ),
        ops(
            "verity-appraise-fix",
            69,
            70,
            &[
                "ok 0x04049c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa +0 +0",
                "ok 6 +1 +0",
            ],
        ),
        audit(
            "verity-appraise-fix",
            70,
            70,
            &["cause=verity-signature-required comm=\"op\" name=\"/t/n-none\""],
        ),
        ops(
            "verity-appraise-fix",
            71,
            71,
            &["ok 0x04049c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa +0 +0"],
        ),
        audit("verity-appraise-fix", 76, 76, &[]),
        audit(
            "verity-appraise-fix",
            84,
            84,
            &["cause=verity-signature-required comm=\"op\" name=\"/t/p-none\""],
        ),
        audit(
            "verity-appraise-fix",
            86,
            86,
            &["cause=verity-signature-required comm=\"op\" name=\"/t/p-none\""],
        ),
        list(
            "verity-appraise-fix",
            12,
            12,
            &[
                "ima-sig sha512:21fe275216d7dafb8afa8f8257ae96215b74c1dad980238e6fdbbd0c41a44adb8d3e1f95c7e3dad3e25037369d1c87dd107ceb7eb9c9c868eb2b18b57ddd4125 /t/v-algo",
            ],
        ),
        list(
            "verity-appraise-fix",
            21,
            21,
            &["ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/v-mixed"],
        ),
        list(
            "verity-appraise-fix",
            23,
            22,
            &[
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-good",
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-hash",
                "ima-sig sha256:9c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa /t/n-none",
            ],
        ),
        tree(
            "verity-appraise-fix",
            10,
            11,
            &[
                "size=6 security.ima=0x04049c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa",
                "size=6 security.ima=0x04049c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa",
            ],
        ),
        tree(
            "verity-appraise-fix",
            14,
            14,
            &["size=6 security.ima=0x04049c76eecc7b76fcb46199cb27b90cf59a660e10575bb0412128905129d5b1c2aa"],
        ),
        tree(
            "verity-appraise-fix",
            19,
            19,
            &["size=6 security.ima=0x060306a73cc3d201008c13d29bc3c5c2f0a08f772004f2002111da5e0087e439b3e8"],
        ),
        tree(
            "verity-appraise-fix",
            28,
            28,
            &["size=6 security.ima=0x060304a73cc3d20100a72d701854c07bf9d7880e194700468b8a09884ef1effe4670"],
        ),
    ],
};
