//! Still the first verdict: where the node changed its key, both keys say so, and each of them signs its own blocks only.

use hufu_gm::Hash;
use hufu_ledger::BlockHeader;
use hufu_trade::rotation::KeyRotation;

use crate::{
    evidence::Evidence, findings::Verdict, open::Members, signed::Kind, text::Text, verdict::signatures::Authentic,
};

pub(crate) fn check(members: &Members, evidence: &Evidence<'_>, authentic: &Authentic, out: &mut Verdict) {
    let mut held: Vec<(u64, &KeyRotation)> = Vec::new();
    for found in &evidence.rotations {
        let (signed, rotation) = &found.value;
        let tbs = signed.rotation.as_bytes();
        let sides = [
            (Kind::RotationOld, "oldSignature", rotation.old, &signed.old_signature),
            (Kind::RotationNew, "newSignature", rotation.new, &signed.new_signature),
        ];
        let mut keys = Vec::new();
        for (kind, field, certificate, signature) in sides {
            let sealed = authentic
                .of(kind, tbs)
                .filter(|sealed| sealed.certificate == certificate.0 && sealed.signature == signature.as_bytes());
            keys.extend(sealed.map(|sealed| &sealed.key));
            out.check(sealed.is_some(), found.field(field), || Text::Unsigned { role: kind.name().to_owned() });
        }
        if let Some(deal) = &evidence.deal {
            let (told, pool) = (deal.value.computing_pool_id.clone(), rotation.computing_pool_id.clone());
            let differs = || Text::FieldDiffers { by: "deal".into(), told: told.clone(), found: pool.clone() };
            out.check(told == pool, found.field("computingPoolId"), differs);
        }
        let changed = keys.len() == 2 && keys.first() != keys.last();
        out.check(changed, found.name, || Text::KeyKept {});
        if changed {
            held.push((found.place.1, rotation));
        }
    }
    for name in authentic.files(Kind::Block) {
        let Some(bytes) = members.bytes(name) else { continue };
        let Ok(header) = BlockHeader::from_bytes(bytes) else { continue };
        let Some(sealed) = authentic.of(Kind::Block, bytes) else { continue };
        let may = held.iter().all(|(height, rotation)| in_force(&header, &sealed.certificate, (*height, rotation)));
        out.check(may, name, || Text::KeyNotInForce {});
    }
}

/// The old certificate signs below the rotation, the new one from it on; others are not its matter.
fn in_force(header: &BlockHeader, certificate: &Hash, (height, rotation): (u64, &KeyRotation)) -> bool {
    let from = if header.log.number() == 0 { height.saturating_add(1) } else { rotation.finance_from };
    if *certificate == rotation.old.0 {
        header.height < from
    } else {
        *certificate != rotation.new.0 || header.height >= from
    }
}
