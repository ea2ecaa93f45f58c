//! Gives types of the core an encoding without the core knowing of serde.

/// Gives a type the encoding of its mirror, a `#[serde(remote = "…")]` definition that repeats the
/// type field by field; the compiler keeps the two equal.
macro_rules! mirrored {
    ($type:ty, $mirror:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$mirror>::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                <$mirror>::deserialize(input)
            }
        }
    };
}

/// Gives a type the encoding of a DTO that it converts to, and from with checks.
macro_rules! converted {
    ($type:ty, $dto:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$dto>::from(self).serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                <$dto>::deserialize(input)?
                    .try_into()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(super) use {converted, mirrored};
