// The other side of messages and seals: BouncyCastle 1.72 and its ASN.1, with nothing of Hufu. Reads commands from standard
// input, one a line, words parted by tabs, and answers each with one line, "ok ..." or "no: reason".
//
//   javac -cp bcprov.jar:bcpkix.jar:bcutil.jar -d D Messages.java; java -cp D:bcprov.jar:bcpkix.jar:bcutil.jar Messages
//
//   stock-verify  MESSAGE CONTENT|-            BouncyCastle's own CMS interface
//   verify        MESSAGE CONTENT|-            GM/T 0010 by hand, strict, every member looked at
//   sign          KEY CERT CONTENT OUT attributes|none attached|detached   its CMS interface, then the national identifiers
//   open          MESSAGE KEY CERT OUT         EnvelopedData or SignedAndEnvelopedData by hand
//   envelop       CERT CONTENT OUT OID         EnvelopedData, key encryption algorithm OID
//   seal-verify   SIGNATURE DOCUMENT           SES_Signature of GB/T 38540 by hand
//   seal-make     KEY CERT DOCUMENT OUT        a seal and a signature with it, in the encoding of ofdrw: critical FALSE written
//   stamp         KEY CERT REQUEST OUT POLICY  the answer of a time-stamping authority (RFC 3161), its TSP interface
//   stamp-verify  REQUEST RESPONSE CERT        such an answer, as its TSP interface judges it
import java.io.*;
import java.math.BigInteger;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.*;
import javax.crypto.Cipher;
import javax.crypto.spec.*;
import org.bouncycastle.asn1.*;
import org.bouncycastle.asn1.x509.Certificate;
import org.bouncycastle.cert.*;
import org.bouncycastle.cert.jcajce.*;
import org.bouncycastle.cms.*;
import org.bouncycastle.cms.jcajce.*;
import org.bouncycastle.crypto.engines.SM2Engine;
import org.bouncycastle.crypto.params.*;
import org.bouncycastle.crypto.util.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.tsp.*;
import org.bouncycastle.util.CollectionStore;

public class Messages {
    static final String ARC = "1.2.156.10197.6.1.4.2.";
    static final String SM3 = "1.2.156.10197.1.401", SM2_WITH_SM3 = "1.2.156.10197.1.501", SM2 = "1.2.156.10197.1.301.1";
    static final String SM2_ENCRYPTION = "1.2.156.10197.1.301.3", SM4_CBC = "1.2.156.10197.1.104.2";

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] w = line.split("\t");
            try {
                System.out.println("ok" + run(w));
            } catch (Throwable e) {
                System.out.println("no: " + String.valueOf(e).replace('\n', ' '));
            }
            System.out.flush();
        }
    }

    static String run(String[] w) throws Exception {
        switch (w[0]) {
            case "stock-verify": return stockVerify(read(w[1]), w[2].equals("-") ? null : read(w[2]));
            case "verify": return verify(read(w[1]), w[2].equals("-") ? null : read(w[2]));
            case "sign": return write(w[4], sign(key(w[1]), certificate(w[2]), read(w[3]), w[5].equals("attributes"), w[6].equals("attached")));
            case "open": return open(read(w[1]), w[2], certificate(w[3]), w[4]);
            case "envelop": return write(w[3], envelop(certificate(w[1]), read(w[2]), w[4]));
            case "seal-verify": return sealVerify(read(w[1]), read(w[2]));
            case "seal-make": return write(w[4], sealMake(key(w[1]), certificate(w[2]), read(w[3])));
            case "stamp": return write(w[4], stamp(key(w[1]), certificate(w[2]), read(w[3]), w[5]));
            case "stamp-verify": return stampVerify(read(w[1]), read(w[2]), certificate(w[3]));
            default: throw new IllegalArgumentException(w[0]);
        }
    }

    static byte[] read(String path) throws IOException { return Files.readAllBytes(Paths.get(path)); }
    static String write(String path, byte[] bytes) throws IOException { Files.write(Paths.get(path), bytes); return ""; }
    static byte[] pem(String path) throws IOException {
        String text = new String(read(path)).replaceAll("(?s).*-----BEGIN [A-Z ]+-----(.*?)-----END.*", "$1");
        return Base64.getMimeDecoder().decode(text);
    }
    static PrivateKey key(String path) throws Exception {
        return KeyFactory.getInstance("EC", "BC").generatePrivate(new PKCS8EncodedKeySpec(pem(path)));
    }
    static X509CertificateHolder certificate(String path) throws Exception { return new X509CertificateHolder(pem(path)); }

    static byte[] stamp(PrivateKey key, X509CertificateHolder by, byte[] request, String policy) throws Exception {
        SignerInfoGenerator signer = new JcaSimpleSignerInfoGeneratorBuilder().setProvider("BC")
            .build("SM3WITHSM2", key, new JcaX509CertificateConverter().setProvider("BC").getCertificate(by));
        TimeStampTokenGenerator tokens = new TimeStampTokenGenerator(signer,
            new JcaDigestCalculatorProviderBuilder().setProvider("BC").build()
                .get(new org.bouncycastle.asn1.x509.AlgorithmIdentifier(new ASN1ObjectIdentifier(SM3))),
            new ASN1ObjectIdentifier(policy));
        tokens.setAccuracyMillis(500);
        tokens.addCertificates(new CollectionStore<>(Collections.singletonList(by)));
        TimeStampResponseGenerator answers = new TimeStampResponseGenerator(tokens, Collections.singleton(SM3));
        return answers.generate(new TimeStampRequest(request), BigInteger.valueOf(7), new Date(1790000000000L)).getEncoded();
    }

    static String stampVerify(byte[] request, byte[] answer, X509CertificateHolder by) throws Exception {
        TimeStampResponse response = new TimeStampResponse(answer);
        response.validate(new TimeStampRequest(request));
        TimeStampToken token = response.getTimeStampToken();
        token.validate(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(by));
        return " " + token.getTimeStampInfo().getGenTime().getTime();
    }
    static void must(boolean holds, String what) { if (!holds) throw new IllegalStateException(what); }
    static byte[] sm3(byte[] bytes) throws Exception { return MessageDigest.getInstance("SM3", "BC").digest(bytes); }
    static boolean signed(X509CertificateHolder by, byte[] message, byte[] signature) throws Exception {
        Signature s = Signature.getInstance("SM3WITHSM2", "BC");
        s.initVerify(new JcaX509().publicKey(by));
        s.update(message);
        return s.verify(signature);
    }
    static byte[] sign(PrivateKey key, byte[] message) throws Exception {
        Signature s = Signature.getInstance("SM3WITHSM2", "BC");
        s.initSign(key);
        s.update(message);
        return s.sign();
    }
    static class JcaX509 {
        PublicKey publicKey(X509CertificateHolder holder) throws Exception {
            return BouncyCastleProvider.getPublicKey(holder.getSubjectPublicKeyInfo());
        }
    }

    // ---- SignedData
    static String stockVerify(byte[] message, byte[] content) throws Exception {
        CMSSignedData data = content == null ? new CMSSignedData(message) : new CMSSignedData(new CMSProcessableByteArray(content), message);
        Collection<SignerInformation> signers = data.getSignerInfos().getSigners();
        must(!signers.isEmpty(), "nobody signed");
        for (SignerInformation signer : signers) {
            Collection<?> found = data.getCertificates().getMatches(signer.getSID());
            X509CertificateHolder by = (X509CertificateHolder) found.iterator().next();
            must(signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(by)), "signature");
        }
        return "";
    }

    static byte[] sign(PrivateKey key, X509CertificateHolder by, byte[] content, boolean attributes, boolean attached) throws Exception {
        CMSSignedDataGenerator generator = new CMSSignedDataGenerator();
        JcaSignerInfoGeneratorBuilder builder = new JcaSignerInfoGeneratorBuilder(new JcaDigestCalculatorProviderBuilder().setProvider("BC").build());
        builder.setDirectSignature(!attributes);
        generator.addSignerInfoGenerator(builder.build(new JcaContentSignerBuilder("SM3WITHSM2").setProvider("BC").build(key), by));
        generator.addCertificates(new JcaCertStore(Collections.singleton(by)));
        byte[] made = generator.generate(new CMSProcessableByteArray(new ASN1ObjectIdentifier(ARC + "1"), content), attached).getEncoded("DER");
        // RFC 5652 writes version 3 for content that is not id-data, and its own type of the whole: neither is signed.
        ASN1Sequence data = ASN1Sequence.getInstance(ASN1TaggedObject.getInstance(ASN1Sequence.getInstance(made).getObjectAt(1)), true);
        ASN1EncodableVector members = new ASN1EncodableVector();
        members.add(new ASN1Integer(1));
        for (int i = 1; i < data.size(); i++) members.add(data.getObjectAt(i));
        return info("2", new DERSequence(members));
    }

    static byte[] info(String kind, ASN1Encodable content) throws Exception {
        return new DERSequence(new ASN1Encodable[] {new ASN1ObjectIdentifier(ARC + kind), new DERTaggedObject(true, 0, content)}).getEncoded("DER");
    }
    static ASN1Sequence open(byte[] message, String kind) throws Exception {
        ASN1Sequence info = ASN1Sequence.getInstance(ASN1Primitive.fromByteArray(message));
        must(Arrays.equals(info.getEncoded("DER"), message), "not DER");
        must(info.size() == 2 && info.getObjectAt(0).equals(new ASN1ObjectIdentifier(ARC + kind)), "content type");
        return ASN1Sequence.getInstance(ASN1TaggedObject.getInstance(info.getObjectAt(1)), true);
    }
    static void version(ASN1Encodable found) { must(ASN1Integer.getInstance(found).getValue().equals(BigInteger.ONE), "version"); }
    static void algorithm(ASN1Encodable found, String... allowed) {
        ASN1Sequence algorithm = ASN1Sequence.getInstance(found);
        must(Arrays.asList(allowed).contains(((ASN1ObjectIdentifier) algorithm.getObjectAt(0)).getId()), "algorithm");
        must(algorithm.size() == 1 || algorithm.getObjectAt(1).equals(DERNull.INSTANCE), "parameters");
    }

    static String verify(byte[] message, byte[] given) throws Exception {
        ASN1Sequence data = open(message, "2");
        version(data.getObjectAt(0));
        algorithm(ASN1Set.getInstance(data.getObjectAt(1)).getObjectAt(0), SM3);
        ASN1Sequence inner = ASN1Sequence.getInstance(data.getObjectAt(2));
        must(inner.getObjectAt(0).equals(new ASN1ObjectIdentifier(ARC + "1")), "inner type");
        byte[] content = inner.size() == 1 ? given : ASN1OctetString.getInstance(ASN1TaggedObject.getInstance(inner.getObjectAt(1)), true).getOctets();
        must(given == null || Arrays.equals(given, content), "content");
        checkSigners(ASN1Set.getInstance(ASN1TaggedObject.getInstance(data.getObjectAt(3)), false), ASN1Set.getInstance(data.getObjectAt(data.size() - 1)), content);
        return " " + new String(content, "UTF-8");
    }

    static void checkSigners(ASN1Set certificates, ASN1Set signers, byte[] content) throws Exception {
        must(signers.size() > 0, "nobody signed");
        for (ASN1Encodable one : signers) {
            ASN1Sequence signer = ASN1Sequence.getInstance(one);
            version(signer.getObjectAt(0));
            ASN1Sequence named = ASN1Sequence.getInstance(signer.getObjectAt(1));
            X509CertificateHolder by = null;
            for (ASN1Encodable c : certificates) {
                Certificate certificate = Certificate.getInstance(c);
                boolean same = certificate.getIssuer().toASN1Primitive().equals(named.getObjectAt(0).toASN1Primitive())
                    && certificate.getSerialNumber().equals(named.getObjectAt(1));
                if (same) by = new X509CertificateHolder(certificate);
            }
            must(by != null, "certificate of the signer");
            algorithm(signer.getObjectAt(2), SM3);
            byte[] what = content;
            int next = 3;
            if (signer.getObjectAt(3) instanceof ASN1TaggedObject) {
                ASN1Set attributes = ASN1Set.getInstance((ASN1TaggedObject) signer.getObjectAt(3), false);
                what = new DERSet(attributes.toArray()).getEncoded("DER");
                boolean kind = false, digest = false;
                for (ASN1Encodable a : attributes) {
                    ASN1Sequence attribute = ASN1Sequence.getInstance(a);
                    ASN1Encodable value = ASN1Set.getInstance(attribute.getObjectAt(1)).getObjectAt(0);
                    String name = ((ASN1ObjectIdentifier) attribute.getObjectAt(0)).getId();
                    if (name.equals("1.2.840.113549.1.9.3")) kind = value.equals(new ASN1ObjectIdentifier(ARC + "1"));
                    if (name.equals("1.2.840.113549.1.9.4")) digest = Arrays.equals(ASN1OctetString.getInstance(value).getOctets(), sm3(content));
                }
                must(kind && digest, "attributes");
                next = 4;
            }
            algorithm(signer.getObjectAt(next), SM2, SM2_WITH_SM3);
            must(signed(by, what, ASN1OctetString.getInstance(signer.getObjectAt(next + 1)).getOctets()), "signature");
        }
    }

    // ---- EnvelopedData
    static String open(byte[] message, String keyPath, X509CertificateHolder holder, String out) throws Exception {
        boolean both = ((ASN1ObjectIdentifier) ASN1Sequence.getInstance(message).getObjectAt(0)).getId().endsWith(".4");
        ASN1Sequence data = open(message, both ? "4" : "3");
        version(data.getObjectAt(0));
        byte[] key = null;
        for (ASN1Encodable one : ASN1Set.getInstance(data.getObjectAt(1))) {
            ASN1Sequence recipient = ASN1Sequence.getInstance(one);
            version(recipient.getObjectAt(0));
            algorithm(recipient.getObjectAt(2), SM2_ENCRYPTION);
            ASN1Sequence named = ASN1Sequence.getInstance(recipient.getObjectAt(1));
            if (!named.getObjectAt(1).equals(new ASN1Integer(holder.getSerialNumber()))) continue;
            ASN1Sequence cipher = ASN1Sequence.getInstance(ASN1OctetString.getInstance(recipient.getObjectAt(3)).getOctets());
            byte[] c2 = ASN1OctetString.getInstance(cipher.getObjectAt(3)).getOctets();
            ByteArrayOutputStream raw = new ByteArrayOutputStream();
            raw.write(4);
            for (int i = 0; i < 2; i++) raw.write(org.bouncycastle.util.BigIntegers.asUnsignedByteArray(32, ASN1Integer.getInstance(cipher.getObjectAt(i)).getPositiveValue()));
            raw.write(ASN1OctetString.getInstance(cipher.getObjectAt(2)).getOctets());
            raw.write(c2);
            SM2Engine engine = new SM2Engine(SM2Engine.Mode.C1C3C2);
            engine.init(false, PrivateKeyFactory.createKey(pem(keyPath)));
            key = engine.processBlock(raw.toByteArray(), 0, raw.size());
        }
        must(key != null, "no recipient");
        ASN1Sequence content = ASN1Sequence.getInstance(data.getObjectAt(both ? 3 : 2));
        ASN1Sequence algorithm = ASN1Sequence.getInstance(content.getObjectAt(1));
        must(((ASN1ObjectIdentifier) algorithm.getObjectAt(0)).getId().equals(SM4_CBC), "content cipher");
        Cipher sm4 = Cipher.getInstance("SM4/CBC/PKCS7Padding", "BC");
        sm4.init(Cipher.DECRYPT_MODE, new SecretKeySpec(key, "SM4"), new IvParameterSpec(ASN1OctetString.getInstance(algorithm.getObjectAt(1)).getOctets()));
        byte[] plain = sm4.doFinal(ASN1OctetString.getInstance(ASN1TaggedObject.getInstance(content.getObjectAt(2)), false).getOctets());
        if (both) checkSigners(ASN1Set.getInstance(ASN1TaggedObject.getInstance(data.getObjectAt(4)), false), ASN1Set.getInstance(data.getObjectAt(5)), plain);
        return write(out, plain);
    }

    static byte[] envelop(X509CertificateHolder holder, byte[] content, String oid) throws Exception {
        SecureRandom random = new SecureRandom();
        byte[] key = new byte[16], iv = new byte[16];
        random.nextBytes(key);
        random.nextBytes(iv);
        SM2Engine engine = new SM2Engine(SM2Engine.Mode.C1C3C2);
        engine.init(true, new ParametersWithRandom(PublicKeyFactory.createKey(holder.getSubjectPublicKeyInfo()), random));
        byte[] raw = engine.processBlock(key, 0, key.length);
        ASN1Sequence cipher = new DERSequence(new ASN1Encodable[] {
            new ASN1Integer(new BigInteger(1, Arrays.copyOfRange(raw, 1, 33))), new ASN1Integer(new BigInteger(1, Arrays.copyOfRange(raw, 33, 65))),
            new DEROctetString(Arrays.copyOfRange(raw, 65, 97)), new DEROctetString(Arrays.copyOfRange(raw, 97, raw.length))});
        Cipher sm4 = Cipher.getInstance("SM4/CBC/PKCS7Padding", "BC");
        sm4.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, "SM4"), new IvParameterSpec(iv));
        ASN1Sequence recipient = new DERSequence(new ASN1Encodable[] {
            new ASN1Integer(1), new DERSequence(new ASN1Encodable[] {holder.getIssuer(), new ASN1Integer(holder.getSerialNumber())}),
            new DERSequence(new ASN1Encodable[] {new ASN1ObjectIdentifier(oid), DERNull.INSTANCE}), new DEROctetString(cipher.getEncoded("DER"))});
        return info("3", new DERSequence(new ASN1Encodable[] {
            new ASN1Integer(1), new DERSet(recipient),
            new DERSequence(new ASN1Encodable[] {new ASN1ObjectIdentifier(ARC + "1"),
                new DERSequence(new ASN1Encodable[] {new ASN1ObjectIdentifier(SM4_CBC), new DEROctetString(iv)}),
                new DERTaggedObject(false, 0, new DEROctetString(sm4.doFinal(content)))})}));
    }

    // ---- Seals
    static X509CertificateHolder inside(ASN1Encodable octets) throws Exception { return new X509CertificateHolder(ASN1OctetString.getInstance(octets).getOctets()); }

    static String sealVerify(byte[] signature, byte[] document) throws Exception {
        ASN1Sequence outer = ASN1Sequence.getInstance(ASN1Primitive.fromByteArray(signature));
        must(Arrays.equals(outer.getEncoded("DER"), signature) && outer.size() == 4, "not DER, or not of version 4");
        ASN1Sequence toSign = ASN1Sequence.getInstance(outer.getObjectAt(0));
        X509CertificateHolder signer = inside(outer.getObjectAt(1));
        must(((ASN1ObjectIdentifier) outer.getObjectAt(2)).getId().equals(SM2_WITH_SM3), "algorithm");
        must(signed(signer, toSign.getEncoded("DER"), ASN1BitString.getInstance(outer.getObjectAt(3)).getOctets()), "signature");
        must(ASN1Integer.getInstance(toSign.getObjectAt(0)).intValueExact() == 4, "version");
        Date at = ASN1GeneralizedTime.getInstance(toSign.getObjectAt(2)).getDate();
        must(Arrays.equals(ASN1BitString.getInstance(toSign.getObjectAt(3)).getOctets(), sm3(document)), "document");
        String range = ASN1IA5String.getInstance(toSign.getObjectAt(4)).getString();
        ASN1Sequence seal = ASN1Sequence.getInstance(toSign.getObjectAt(1));
        must(seal.size() == 4, "seal of version 4");
        ASN1Sequence info = ASN1Sequence.getInstance(seal.getObjectAt(0));
        X509CertificateHolder maker = inside(seal.getObjectAt(1));
        must(((ASN1ObjectIdentifier) seal.getObjectAt(2)).getId().equals(SM2_WITH_SM3), "algorithm of the seal");
        must(signed(maker, info.getEncoded("DER"), ASN1BitString.getInstance(seal.getObjectAt(3)).getOctets()), "signature of the seal");
        ASN1Sequence header = ASN1Sequence.getInstance(info.getObjectAt(0)), property = ASN1Sequence.getInstance(info.getObjectAt(2));
        must(ASN1IA5String.getInstance(header.getObjectAt(0)).getString().equals("ES") && ASN1Integer.getInstance(header.getObjectAt(1)).intValueExact() == 4, "header");
        must(ASN1Integer.getInstance(property.getObjectAt(2)).intValueExact() == 1, "list of certificates");
        boolean listed = false;
        for (ASN1Encodable one : ASN1Sequence.getInstance(property.getObjectAt(3))) listed |= Arrays.equals(ASN1OctetString.getInstance(one).getOctets(), signer.getEncoded());
        must(listed, "signer is not listed");
        must(!at.before(ASN1GeneralizedTime.getInstance(property.getObjectAt(5)).getDate()) && !at.after(ASN1GeneralizedTime.getInstance(property.getObjectAt(6)).getDate()), "validity of the seal");
        ASN1Sequence picture = ASN1Sequence.getInstance(info.getObjectAt(3));
        return " " + ASN1UTF8String.getInstance(property.getObjectAt(1)).getString() + " " + ASN1IA5String.getInstance(picture.getObjectAt(0)).getString() + " " + range;
    }

    static byte[] sealMake(PrivateKey key, X509CertificateHolder by, byte[] document) throws Exception {
        ASN1Sequence extension = new DERSequence(new ASN1Encodable[] {new ASN1ObjectIdentifier("1.2.3.4"), ASN1Boolean.FALSE, new DEROctetString(new byte[] {1})});
        long day = 86400000L;
        Date now = new Date(by.getNotBefore().getTime() + day);
        ASN1Sequence property = new DERSequence(new ASN1Encodable[] {
            new ASN1Integer(1), new DERUTF8String("测试印章"), new ASN1Integer(1), new DERSequence(new DEROctetString(by.getEncoded())),
            new DERGeneralizedTime(now), new DERGeneralizedTime(now), new DERGeneralizedTime(new Date(now.getTime() + 30 * day))});
        ASN1Sequence info = new DERSequence(new ASN1Encodable[] {
            new DERSequence(new ASN1Encodable[] {new DERIA5String("ES"), new ASN1Integer(4), new DERIA5String("other")}), new DERIA5String("seal-1"), property,
            new DERSequence(new ASN1Encodable[] {new DERIA5String("PNG"), new DEROctetString(new byte[] {(byte) 0x89, 'P', 'N', 'G'}), new ASN1Integer(40), new ASN1Integer(40)}),
            new DERSequence(extension)});
        ASN1Encodable algorithm = new ASN1ObjectIdentifier(SM2_WITH_SM3);
        ASN1Sequence seal = new DERSequence(new ASN1Encodable[] {info, new DEROctetString(by.getEncoded()), algorithm, new DERBitString(sign(key, info.getEncoded("DER")))});
        ASN1Sequence toSign = new DERSequence(new ASN1Encodable[] {
            new ASN1Integer(4), seal, new DERGeneralizedTime(new Date(now.getTime() + day)), new DERBitString(sm3(document)), new DERIA5String("document"),
            new DERTaggedObject(true, 0, new DERSequence(extension))});
        return new DERSequence(new ASN1Encodable[] {toSign, new DEROctetString(by.getEncoded()), algorithm, new DERBitString(sign(key, toSign.getEncoded("DER")))}).getEncoded("DER");
    }
}
