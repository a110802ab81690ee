//! Which partition a key belongs to: the CRC-64 of Apache Pegasus (the Rocksoft / NVMe polynomial), so that every
//! existing client and data file agrees with us.

/// CRC-64/NVME, reflected.
const POLYNOMIAL: u64 = 0x9A6C_9329_AC4B_C9B5;

/// `TABLES[k][b]` advances the register over byte `b` followed by `k` zero bytes: eight bytes then cost eight
/// independent look-ups instead of a chain of eight.
static TABLES: [[u64; 256]; 8] = tables();

/// CRC-64 of `data`: register starts as all ones, is complemented at the end. 0 for no data.
#[must_use]
pub fn crc64(data: &[u8]) -> u64 {
    let (words, tail) = data.as_chunks::<8>();
    let mut crc = !0;
    for word in words {
        let [a, b, c, d, e, f, g, h] = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
        crc = TABLES[7][usize::from(a)]
            ^ TABLES[6][usize::from(b)]
            ^ TABLES[5][usize::from(c)]
            ^ TABLES[4][usize::from(d)]
            ^ TABLES[3][usize::from(e)]
            ^ TABLES[2][usize::from(f)]
            ^ TABLES[1][usize::from(g)]
            ^ TABLES[0][usize::from(h)];
    }
    for byte in tail {
        let [low, ..] = crc.to_le_bytes();
        crc = TABLES[0][usize::from(low ^ byte)] ^ (crc >> 8);
    }
    !crc
}

/// The hash that picks a partition: of the hash key, or of the sort key when the hash key is empty.
#[must_use]
pub fn key_hash(hash_key: &[u8], sort_key: &[u8]) -> u64 {
    crc64(if hash_key.is_empty() {
        sort_key
    } else {
        hash_key
    })
}

/// Index of the partition that owns a key, from 0.
///
/// # Panics
/// If `partition_count` is 0; no table has that (meta creates powers of two from 2).
#[must_use]
pub fn partition_of(hash_key: &[u8], sort_key: &[u8], partition_count: u32) -> u32 {
    let index = key_hash(hash_key, sort_key) % u64::from(partition_count);
    #[allow(clippy::cast_possible_truncation, reason = "below a u32 count")]
    let index = index as u32;
    index
}

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 1 {
                (register >> 1) ^ POLYNOMIAL
            } else {
                register >> 1
            };
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        byte = 0;
        while byte < 256 {
            let register = tables[zeros - 1][byte];
            tables[zeros][byte] = tables[0][(register & 0xff) as usize] ^ (register >> 8);
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_byte_at_a_time(data: &[u8]) -> u64 {
        !data.iter().fold(!0, |crc, byte| {
            TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
        })
    }

    /// The vectors of the Apache Pegasus clients: input, hash, index among 4, 8, 16 and 64 partitions.
    #[test]
    fn hashes_are_those_of_existing_clients() {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let vectors: [(&[u8], u64, [u32; 4]); 12] = [
            (b"", 0, [0, 0, 0, 0]),
            (&[0], 0xd5da_5047_efec_8728, [0, 0, 8, 40]),
            (b"a", 0x8c2f_8445_b4cb_fc3c, [0, 4, 12, 60]),
            (b"123456789", 0xae8b_1486_0a79_9888, [0, 0, 8, 8]),
            (b"hash", 0x5fec_6e44_8a0b_067c, [0, 4, 12, 60]),
            (b"hashkey", 0x1299_d9b0_6672_773a, [2, 2, 10, 58]),
            (b"hash_key", 0x6564_1f36_e9f6_a96d, [1, 5, 13, 45]),
            (b"pegasus", 0xce87_09cf_bd39_73c4, [0, 4, 4, 4]),
            (b"user_1", 0x9ce6_8171_e015_1387, [3, 7, 7, 7]),
            ("中文".as_bytes(), 0x5203_42bc_8474_68ba, [2, 2, 10, 58]),
            (&[0xff; 8], u64::MAX, [3, 7, 15, 63]),
            (&all_bytes, 0xff71_e212_79d9_966e, [2, 6, 14, 46]),
        ];
        for (input, hash, indexes) in vectors {
            assert_eq!(crc64(input), hash, "{input:02x?}");
            for (count, index) in [4, 8, 16, 64].into_iter().zip(indexes) {
                assert_eq!(
                    partition_of(input, b"ignored unless the hash key is empty", count),
                    if input.is_empty() {
                        partition_of(b"", b"ignored unless the hash key is empty", count)
                    } else {
                        index
                    }
                );
            }
        }
    }

    #[test]
    fn an_empty_hash_key_gives_way_to_the_sort_key() {
        assert_eq!(partition_of(b"", b"user_1", 8), 7);
        assert_eq!(partition_of(b"", b"", 8), 0);
    }

    #[test]
    fn table_entries_are_the_published_ones() {
        assert_eq!(TABLES[0][1], 0x7f6e_f0c8_3035_8979);
        assert_eq!(TABLES[0][255], 0x2ada_5047_efec_8728);
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_equals_one_at_a_time(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(crc64(&data), one_byte_at_a_time(&data));
        }
    }
}
