"""Languages of streams: tags of BCP 47, and the codes of three letters (ISO 639-2) that some containers hold only."""

from __future__ import annotations

import re

from ns_video.media.containers import Container

# ISO 639-1 and ISO 639-2, terminological codes (Library of Congress, "Codes for the Representation of Names of
# Languages"); the last four are of old for he, id, yi and jv (IANA's registry of subtags).
_OF_TWO_LETTERS = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bh:bih
bi:bis bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan
de:deu dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra
fy:fry ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her
ia:ina id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua
kk:kaz kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin
lo:lao lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob
nd:nde ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli
pl:pol ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag si:sin sk:slk
sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir
tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol
wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
iw:heb in:ind ji:yid jw:jav
"""
# Terminological and bibliographic codes of ISO 639-2 where a language has both.
_OF_BOTH_KINDS = """
bod:tib ces:cze cym:wel deu:ger ell:gre eus:baq fas:per fra:fre hye:arm isl:ice kat:geo mkd:mac mri:mao msa:may
mya:bur nld:dut ron:rum slk:slo sqi:alb zho:chi
"""
_CODES = {pair[:2]: pair[3:] for pair in _OF_TWO_LETTERS.split()}
_BIBLIOGRAPHIC = {pair[:3]: pair[4:] for pair in _OF_BOTH_KINDS.split()}
_TERMINOLOGICAL = {b: t for t, b in _BIBLIOGRAPHIC.items()}
# QuickTime's own language table has the bibliographic codes, but for these.
_QUICKTIME = {**{t: b for t, b in _BIBLIOGRAPHIC.items() if t not in ("fra", "mri")}, "fre": "fra"}


def told_language(language: str, container: Container) -> str:
    """A stream's language as the container holds it; "" where it doesn't."""
    if not container.codes_languages or not language:
        return language
    codes = [code for tag in language.split(",") if (code := _code_of(tag))]
    if container.lists_languages:
        return ",".join(codes)
    code = next(iter(codes), "")
    return _QUICKTIME.get(code, code) if container.numbers_languages else code


def same_language(one: str, other: str) -> bool:
    """Whether two tags are one language, by the codes of ISO 639-2 that it may have."""
    a, b = ([_TERMINOLOGICAL.get(tag, tag) for tag in tags.lower().split(",")] for tags in (one, other))
    return a == b


def _code_of(tag: str) -> str:
    """The code of ISO 639-2 for the language of a tag of BCP 47 ("pt-BR"), or of a locale; "" where none is known."""
    primary = re.split("[-_]", tag.strip().lower())[0]
    return primary if re.fullmatch("[a-z]{3}", primary) else _CODES.get(primary, "")
